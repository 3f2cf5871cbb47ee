"""The command line: ``fidfast fid | stats | info``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from fidfast import __version__, formats
from fidfast.frechet import frechet_terms, stats_of_file
from fidfast.gaussian import GaussianStats

#: The network whose Fréchet distance is called FID, by the names that tools give it.
INCEPTION_NAMES = ("inception", "inception-2015-12-05")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 1 with a sentence on standard error when it did not."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show_warning
            options.run(options)
    except BrokenPipeError:  # the reader, head say, has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        print(f"fidfast: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fidfast", description="Fréchet distance between sets of features.")
    parser.add_argument("--version", action="version", version=f"fidfast {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    files = "statistics (.npz, .pkl, .pt) or features (.npy, .npz, .pt, .safetensors)"

    fid = commands.add_parser("fid", help="print the distance between two files")
    fid.add_argument("a", metavar="A", help=files)
    fid.add_argument("b", metavar="B", help="the same")
    fid.add_argument("--json", action="store_true", help="print everything that is known as one JSON object")
    fid.set_defaults(run=_fid)

    stats = commands.add_parser("stats", help="write the statistics of a file of features")
    stats.add_argument("features", help=files)
    stats.add_argument("out", help="the .npz to write; every tool of the field reads it")
    stats.add_argument("--extractor", metavar="NAME", help="name of the network that made the features")
    stats.set_defaults(run=_stats)

    for command in (fid, stats):
        command.add_argument(
            "--precision",
            choices=("float32", "float64"),
            default="float32",
            help="arithmetic of the products of float32 and narrower features (default: %(default)s)",
        )

    info = commands.add_parser("info", help="say what a file holds")
    info.add_argument("file", help=f"{files}, or a checkpoint of Moments")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)
    return parser


def _fid(options: argparse.Namespace) -> None:
    a = stats_of_file(options.a, options.precision)
    b = stats_of_file(options.b, options.precision)
    if a.dim != b.dim:
        raise ValueError(f"{options.a} has dim {a.dim}, but {options.b} has dim {b.dim}")
    terms = frechet_terms(a, b)
    extractors = [stats.extractor for stats in (a, b)]
    label = "FID" if all(name in INCEPTION_NAMES for name in extractors) else "Fréchet distance"
    if options.json:
        known = {"label": label, **terms._asdict(), "dim": a.dim}
        known |= {
            "num_samples": [a.num_samples, b.num_samples],
            "extractor": extractors,
            "files": [options.a, options.b],
        }
        print(json.dumps({**known, "fidfast_version": __version__}, ensure_ascii=False))
        return
    print(f"{label} {terms.distance:.8g}")
    counts = " and ".join(_or_unknown(stats.num_samples) for stats in (a, b))
    names = " and ".join(dict.fromkeys(_or_unknown(name) for name in extractors))
    print(f"dim {a.dim}, num_samples {counts}, extractor {names}, rounding at most {terms.rounding:.1g}")


def _stats(options: argparse.Namespace) -> None:
    stats = stats_of_file(options.features, options.precision, options.extractor)
    stats.save(options.out)
    print(f"{options.out}: dim {stats.dim}, num_samples {_or_unknown(stats.num_samples)}")


def _info(options: argparse.Namespace) -> None:
    known = _description(options.file)
    if options.json:
        print(json.dumps(known, ensure_ascii=False))
        return
    width = max(map(len, known))
    for key, value in known.items():
        print(f"{key:{width}}  {_or_unknown(value)}")


def _description(path: str) -> dict[str, Any]:
    content = formats.read(path)
    known: dict[str, Any] = {"file": path, "holds": content.what}
    if isinstance(content, formats.Features):
        shape = list(content.features.shape)
        return known | {"shape": shape, "dtype": str(content.features.dtype), "extractor": content.extractor}
    if isinstance(content, formats.Checkpoint):
        moments = content.moments
        return known | {
            "dim": moments.dim,
            "num_samples": moments.num_samples,
            "precision": moments.precision,
            "extractor": content.extractor,
        }
    stats = GaussianStats.load(path)
    known |= {"dim": stats.dim, "num_samples": stats.num_samples, "ddof": stats.ddof, "extractor": stats.extractor}
    variances = stats.sigma.diagonal()
    return known | {"trace": float(variances.sum()), "dead_units": int((variances == 0).sum())}


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"fidfast: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
