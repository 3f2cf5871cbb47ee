"""What a GPU's answers are compared by: a small problem at first use, and a longer list on demand."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core, cuda

__all__ = ["first_problem", "main", "problems"]

#: Largest relative difference between the two answers to a problem: rounding, in another order.
TOLERANCE = 1e-11

Answer = NDArray[np.float64]


def first_problem(module: Any, device: int, tensor_cores: bool) -> dict[str, float]:
    """Numbers that need the ways a device takes; milliseconds.

    Those of moments, distance and transport map, of 40 and 7 rows in dim 6; and where it multiplies on tensor cores, of
    rows of 16 bits in the smallest dim for which it does.
    """
    rng = np.random.default_rng(1)
    many, few = rng.standard_normal((40, 6)), rng.standard_normal((7, 6)) + 1
    first = _stats(module, device, many.astype(np.float32))
    second = _stats(module, device, few)
    jackknife = module.Jackknife(first, second, True, False, "float64", True)
    numbers = {
        "distance": module.frechet_distance(first, second),
        "trace of the transport map": float(np.trace(module.transport_map(first, second))),
        "distance without row 0": float(jackknife.without(False, many.astype(np.float32))[0][0]),
    }
    if tensor_cores:
        sigma = _covariance_of_halves(module, device, 512)
        weights = rng.standard_normal(512) / np.sqrt(np.diag(sigma))
        numbers["variance of 16-bit rows in a direction"] = float(weights @ sigma @ weights)
    return numbers


def _covariance_of_halves(module: Any, device: int, dim: int) -> Answer:
    """Of float16 rows whose products have one right answer: float32 sums of 64 integers that small are exact.

    Half of the units are bfloat16 numbers too, others are not, and some are too far from the origin for products of 16
    bits: each goes another way on tensor cores.
    """
    rows = np.random.default_rng(3).integers(-3, 4, (dim + 16, dim))
    rows[:, dim // 2 :] *= 101  # 303 has nine bits
    rows[:, -dim // 16 :] += 1000
    precision = "float64" if module is _core else "float32"  # the CPU is to be right
    return np.asarray(_stats(module, device, rows.astype(np.float16), precision=precision).sigma)


def _stats(module: Any, device: int, *batches: Any, precision: str = "float64") -> Any:
    moments = module.Moments(batches[0].shape[1], precision, device)
    for batch in batches:
        moments.update(batch)
    return moments.stats(1)


def problems(dim: int) -> Iterator[tuple[str, Callable[[Any, int], Answer]]]:
    """By name, what to compute with a module on a device; features of `dim` units."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((5 * dim, dim)) @ (rng.standard_normal((dim, dim)) / np.sqrt(dim)) + 3
    other = 1.2 * rng.standard_normal((4 * dim, dim)) + 3
    sides = {dtype: rows.astype(dtype) for dtype in ("float16", "float32", "float64")}

    def moments_of(dtype: str) -> Callable[[Any, int], Answer]:
        batches = np.array_split(sides[dtype], 7)
        return lambda module, device: np.asarray(_stats(module, device, *batches).sigma)

    for dtype in sides:
        yield f"covariance of {dtype} rows in batches", moments_of(dtype)

    def of_halves(module: Any, device: int) -> Answer:
        return _covariance_of_halves(module, device, dim)

    yield "covariance of float16 rows in float32", of_halves

    def merged(module: Any, device: int) -> Answer:
        parts = [module.Moments(dim, "float64", device) for _ in range(2)]
        for part, half in zip(parts, np.array_split(rows, 2), strict=True):
            part.update(half)
        parts[0].merge(parts[1])
        return np.asarray(parts[0].stats(1).sigma)

    yield "covariance of two merged halves", merged

    def pair(module: Any, device: int, n: int) -> tuple[Any, Any]:
        return _stats(module, device, rows[:n]), _stats(module, device, other)

    def distance(n: int) -> Callable[[Any, int], Answer]:
        return lambda module, device: np.array([module.frechet_distance(*pair(module, device, n))])

    yield "distance, full rank", distance(len(rows))
    yield "distance, fewer rows than units", distance(dim // 2 + 1)
    singular = np.cov(rows[: dim // 2 + 1], rowvar=False)

    def of_singular(module: Any, device: int) -> Answer:
        known = module.Gaussian(np.zeros(dim), singular, dim // 2 + 1, device)
        return np.array([module.frechet_distance(known, _stats(module, device, other))])

    yield "distance, singular covariance", of_singular
    yield "transport map", lambda module, device: module.transport_map(*pair(module, device, len(rows)))

    def without_rows(module: Any, device: int) -> Answer:
        jackknife = module.Jackknife(*pair(module, device, len(rows)), True, True, "float64", True)
        return np.concatenate(jackknife.without(False, rows))

    yield "distance without each row", without_rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; 0 where all agree, or there is no device."""
    parser = argparse.ArgumentParser(prog="python -m fidfast.cuda", description="test the GPUs against the CPU")
    parser.add_argument("--dim", type=int, nargs="+", default=[64, 1024], help="units of the features (64 and 1024)")
    options = parser.parse_args(arguments)
    known = cuda.info()
    print(f"fidfast {_core.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"compiled for {known['architectures'] or 'no GPU'}")
    for name, value in known["libraries"].items():
        print(f"{name:22}{value}")
    if not known["available"]:
        print(known["reason"])
        return 0
    from fidfast import _cuda

    failures = 0
    for device, properties in enumerate(known["devices"]):
        if not properties["usable"]:
            continue
        print(f"\nCUDA device {device}")
        for name, value in properties.items():
            print(f"  {name:20}{value}")
        for dim in options.dim:
            print(f"  dim {dim}{'':32}difference      GPU s      CPU s")
            failures += sum(not _compared(_cuda, device, name, solve) for name, solve in problems(dim))
    print("\nall agree" if failures == 0 else f"\n{failures} do not agree")
    return int(failures > 0)


def _compared(module: Any, device: int, name: str, solve: Callable[[Any, int], Answer]) -> bool:
    try:
        solve(module, device)  # the first call pays for libraries and kernels that are loaded
        there, there_seconds = _timed(solve, module, device)
    except Exception as error:  # wrong numbers may end in any
        print(f"  {name:38}fails: {error}")
        return False
    here, here_seconds = _timed(solve, _core, 0)
    difference = float(np.abs(there - here).max() / np.abs(here).max())
    agrees = difference <= TOLERANCE
    mark = "" if agrees else "   TOO LARGE"
    print(f"  {name:38}{difference:10.1e}{there_seconds:11.4f}{here_seconds:11.4f}{mark}")
    return agrees


def _timed(solve: Callable[[Any, int], Answer], module: Any, device: int) -> tuple[Answer, float]:
    start = time.perf_counter()
    answer = solve(module, device)
    return answer, time.perf_counter() - start
