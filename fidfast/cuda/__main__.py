"""``python -m fidfast.cuda``: compare this machine's GPUs with the CPU and print a report."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from types import ModuleType

from fidfast import _core, cuda
from fidfast.cuda import _problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report. Returns the exit status: 0 if all results agree or there is no device, else 1."""
    parser = argparse.ArgumentParser(prog="python -m fidfast.cuda", description="compare the GPUs with the CPU")
    parser.add_argument(
        "--dim", type=int, nargs="+", default=[64, 1024], help="dimensions of the features (default: 64 1024)"
    )
    options = parser.parse_args(arguments)
    info = cuda.info()
    print(f"fidfast {_core.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"compiled for {info['architectures'] or 'no GPU'}")
    for name, value in info["libraries"].items():
        print(f"{name:22}{value}")
    if not info["available"]:
        print(info["reason"])
        return 0
    from fidfast import _cuda

    failures = 0
    for device, properties in enumerate(info["devices"]):
        if not properties["usable"]:
            continue
        print(f"\nCUDA device {device}")
        for name, value in properties.items():
            print(f"  {name:20}{value}")
        for dim in options.dim:
            print(f"  dim {dim}{'':32}difference      GPU s      CPU s")
            failures += sum(not _print_comparison(_cuda, device, *problem) for problem in _problems.problems(dim))
    print("\nall results agree" if failures == 0 else f"\n{failures} results do not agree")
    return int(failures > 0)


def _print_comparison(module: ModuleType, device: int, name: str, solve: _problems.Solver) -> bool:
    """Print one line of the report. Returns whether the results agree."""
    try:
        found = _problems.compare(module, device, solve)
    except Exception as error:  # a wrong intermediate value can raise anything
        print(f"  {name:38}failed: {error}")
        return False
    agree = found.difference <= _problems.TOLERANCE
    mark = "" if agree else "   TOO LARGE"
    print(f"  {name:38}{found.difference:10.1e}{found.gpu_seconds:11.4f}{found.cpu_seconds:11.4f}{mark}")
    return agree


if __name__ == "__main__":
    raise SystemExit(main())
