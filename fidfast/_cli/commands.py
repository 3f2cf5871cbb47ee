"""The command line: ``fidfast fid | report | stats | info | demo``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fidfast import __version__
from fidfast._cli.arguments import Sources, add_image_options
from fidfast._files import formats
from fidfast._inputs import is_inception
from fidfast._metrics.frechet import frechet_terms
from fidfast._metrics.uncertainty import estimate
from fidfast._report.build import report
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments


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
    except KeyboardInterrupt:
        print("fidfast: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        print(f"fidfast: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fidfast", description="Fréchet distance between sets of images, features or statistics."
    )
    parser.add_argument("--version", action="version", version=f"fidfast {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    files = "statistics (.npz, .pkl, .pt) or features (.npy, .npz, .pt, .safetensors)"
    sources = f"images (a folder, .zip, .tar, .npz, .npy), {files}"

    fid = commands.add_parser("fid", help="print the distance between two sets of images, features or statistics")
    fid.add_argument("a", metavar="A", help=sources)
    fid.add_argument("b", metavar="B", help="the same")
    fid.add_argument(
        "--estimate",
        action="store_true",
        help="with its error bar and without the bias of the samples; of features or images",
    )
    fid.add_argument("--json", action="store_true", help="print everything that is known as one JSON object")
    fid.set_defaults(run=_fid)

    whole = commands.add_parser("report", help="print all that features alone can tell; --html: with plots")
    whole.add_argument("a", metavar="A", help=f"the samples: {sources}")
    whole.add_argument("b", metavar="B", help="the reference: the same")
    whole.add_argument("--html", metavar="FILE", help="write one page with the table, the plots and the worst images")
    whole.add_argument("--images", metavar="PATH", help="the images behind the features of A, in their order")
    whole.add_argument(
        "--no-pairs",
        action="store_true",
        help="leave out what takes time as the square of the number of samples: KID, precision, recall, ...",
    )
    whole.add_argument("--json", action="store_true", help="print everything that is known as one JSON object")
    whole.set_defaults(run=_report)

    stats = commands.add_parser("stats", help="write the statistics of images or features; an interrupted run goes on")
    stats.add_argument("source", metavar="A", help=sources)
    stats.add_argument("out", help="the .npz to write; every tool of the field reads it")
    stats.set_defaults(run=_stats)

    for command in (fid, whole, stats):
        command.add_argument(
            "--precision",
            choices=("float32", "float64"),
            default="float32",
            help="arithmetic of the products of float32 and narrower features (default: %(default)s)",
        )
        add_image_options(command)

    info = commands.add_parser("info", help="say what a file holds")
    info.add_argument("file", help=f"{files}, or a checkpoint of Moments")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    demo = commands.add_parser("demo", help="show on real images how the distance answers to disturbances")
    demo.add_argument("--out", metavar="FILE", default="fidfast-demo.png", help="the first plot (default: %(default)s)")
    demo.add_argument("--quiet", action="store_true", help="no progress bar")
    demo.set_defaults(run=_demo)
    return parser


def _fid(options: argparse.Namespace) -> None:
    sources = Sources(options)
    sources.require_images(options.a, options.b)
    if options.estimate:
        _print_estimate(options, sources)
        return
    a, b = sources.stats(options.a), sources.stats(options.b)
    if a.dim != b.dim:
        raise ValueError(f"{options.a} has dim {a.dim}, but {options.b} has dim {b.dim}")
    if None not in (a.ddof, b.ddof) and a.ddof != b.ddof:
        warnings.warn(f"one covariance was made with ddof {a.ddof}, the other with {b.ddof}", stacklevel=1)
    terms = frechet_terms(a, b)
    extractors = [stats.extractor for stats in (a, b)]
    label = _label(*extractors)
    if options.json:
        known = {"label": label, **terms._asdict(), "dim": a.dim}
        known |= {
            "num_samples": [a.num_samples, b.num_samples],
            "extractor": extractors,
            "files": [options.a, options.b],
            "skipped": sources.skipped,
        }
        print(json.dumps({**known, "fidfast_version": __version__}, ensure_ascii=False))
        return
    print(f"{label} {terms.distance:.8g}")
    counts = " and ".join(_or_unknown(stats.num_samples) for stats in (a, b))
    names = " and ".join(dict.fromkeys(_or_unknown(name) for name in extractors))
    print(f"dim {a.dim}, num_samples {counts}, extractor {names}, rounding at most {terms.rounding:.1g}")
    sources.report_skipped()


def _label(*extractors: str | None) -> str:
    return "FID" if all(map(is_inception, extractors)) else "Fréchet distance"


def _print_estimate(options: argparse.Namespace, sources: Sources) -> None:
    if options.like is not None:
        raise ValueError("--estimate is of the unbiased covariance; it does not go with --like")
    a, b = sources.sample(options.a).source, sources.sample(options.b).source
    found = estimate(a, b, precision=options.precision)
    label = _label(a.extractor, b.extractor)
    if options.json:
        known = {"label": label, **found.to_dict(), "files": [options.a, options.b], "skipped": sources.skipped}
        print(json.dumps({**known, "fidfast_version": __version__}, ensure_ascii=False))
        return
    print(f"{label} {found}")
    names = " and ".join(dict.fromkeys(_or_unknown(name) for name in (a.extractor, b.extractor)))
    if found.note is None:
        print(f"with the bias, as other tools report it: {found.value:.8g}")
    print(f"extractor {names}, rounding at most {found.rounding:.1g}")
    sources.report_skipped()


def _report(options: argparse.Namespace) -> None:
    sources = Sources(options)
    sources.require_images(options.a, options.b)
    if options.like is not None:
        raise ValueError("report is of the unbiased covariance; it does not go with --like")
    if options.html is not None:
        _require_folder(options.html)
    a, b = sources.sample(options.a, options.images), sources.sample(options.b)
    found = report(
        a.source,
        b.source,
        names=a.names,
        images=a.images,
        titles=(options.a, options.b),
        all_pairs=not options.no_pairs,
        precision=options.precision,
    )
    if options.html is not None:
        found.write_html(options.html)
    if options.json:
        known = {**found.to_dict(), "files": [options.a, options.b], "skipped": sources.skipped}
        print(json.dumps({**known, "fidfast_version": __version__}, ensure_ascii=False))
        return
    print(found.table())
    if options.html is not None:
        print(f"\npage: {options.html}")
    sources.report_skipped()


def _require_folder(path: str) -> None:
    """Before the work begins, where its result is to be written."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {Path(path).parent}")


def _stats(options: argparse.Namespace) -> None:
    sources = Sources(options)
    sources.require_images(options.source)
    out = options.out.removesuffix(".npz")
    _require_folder(out)
    stats = sources.stats(options.source, f"{out}.partial.npz")
    stats.save(options.out)
    known = f"dim {stats.dim}, num_samples {_or_unknown(stats.num_samples)}, extractor {_or_unknown(stats.extractor)}"
    print(f"{out}.npz: {known}")
    sources.report_skipped()


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
    if isinstance(content, formats.State):
        return known | {key: value.item() for key, value in content.entries.items() if value.ndim == 0}
    if isinstance(content, formats.Checkpoint):
        moments = Moments._of_blocks(content.blocks, content.extractor)
        return known | {
            "dim": moments.dim,
            "num_samples": moments.num_samples,
            "precision": moments.precision,
            "extractor": content.extractor,
            **({"unfinished_after": content.progress.done} if content.progress else {}),
        }
    stats = GaussianStats.load(path)
    known |= {"dim": stats.dim, "num_samples": stats.num_samples, "ddof": stats.ddof, "extractor": stats.extractor}
    variances = stats.sigma.diagonal()
    return known | {"trace": float(variances.sum()), "dead_units": int((variances == 0).sum())}


def _demo(options: argparse.Namespace) -> None:
    from fidfast.torch import _demo as demo

    result = demo.run(progress=not options.quiet)
    print(f"Fréchet distance of {result.num_samples} handwritten digits to their disturbed copies")
    print(f"(features of {result.extractor}; between two halves of the data it is {result.halves:.2f})\n")
    print(demo.table(result))
    out = Path(options.out)
    growth = out.with_name(f"{out.stem}-growth{out.suffix}")
    demo.plot(result, out)
    demo.plot_growth(result, growth)
    print(f"\nplots: {out} and {growth}")


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"fidfast: warning: {message}", file=sys.stderr)
