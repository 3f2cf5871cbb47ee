"""The command line: ``fidfast fid | stats | info | demo``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fidfast import __version__, formats, images
from fidfast.formats import Features
from fidfast.frechet import frechet_terms
from fidfast.gaussian import GaussianStats
from fidfast.moments import Moments
from fidfast.sources import is_inception, stats_of_file
from fidfast.uncertainty import estimate

#: Options that say something of images only.
IMAGE_OPTIONS = ("weights", "resize", "bfloat16", "batch_size", "num_workers", "device", "skip_broken")


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

    stats = commands.add_parser("stats", help="write the statistics of images or features; an interrupted run goes on")
    stats.add_argument("source", metavar="A", help=sources)
    stats.add_argument("out", help="the .npz to write; every tool of the field reads it")
    stats.set_defaults(run=_stats)

    for command in (fid, stats):
        command.add_argument(
            "--precision",
            choices=("float32", "float64"),
            default="float32",
            help="arithmetic of the products of float32 and narrower features (default: %(default)s)",
        )
        _add_image_options(command)

    info = commands.add_parser("info", help="say what a file holds")
    info.add_argument("file", help=f"{files}, or a checkpoint of Moments")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    demo = commands.add_parser("demo", help="show on real images how the distance answers to disturbances")
    demo.add_argument("--out", metavar="FILE", default="fidfast-demo.png", help="the plot (default: %(default)s)")
    demo.add_argument("--quiet", action="store_true", help="no progress bar")
    demo.set_defaults(run=_demo)
    return parser


def _add_image_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("images")
    group.add_argument(
        "--extractor",
        metavar="NAME",
        help="the network: inception (default), efficientnet-lite0, or package.module:factory; "
        "of features, the name of the network that made them",
    )
    group.add_argument("--weights", metavar="FILE", help="of inception, instead of a download")
    group.add_argument(
        "--like",
        metavar="TOOL",
        help="the number of pytorch-fid, torch-fidelity, clean-fid, torchmetrics or stylegan3",
    )
    group.add_argument("--resize", metavar="METHOD", help="how images come to the network's size")
    group.add_argument("--bfloat16", action="store_true", help="run the network in bfloat16: faster, other by 1-2 %%")
    group.add_argument(
        "--compile", choices=("auto", "yes", "no"), default="auto", help="compile the network (default: %(default)s)"
    )
    group.add_argument("--batch-size", type=_positive, metavar="N")
    group.add_argument("--num-workers", type=int, metavar="N", help="processes that decode and resize")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda where there is one)")
    group.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read, and list them")
    group.add_argument(
        "--no-cache", action="store_true", help="neither look for the same images' statistics nor keep them"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


class _Sources:
    """What the arguments name, as statistics; the network is loaded at the first images, once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._extractor: Any = None
        #: Messages on images that were left out, by argument.
        self.skipped: dict[str, list[str]] = {}

    def stats(self, path: str, checkpoint: str | None = None) -> GaussianStats:
        options = self._options
        if not images.holds_images(path):
            return stats_of_file(path, options.precision, options.extractor, self._ddof())
        from fidfast.torch import moments_of_images

        moments, skipped = moments_of_images(
            path,
            moments_precision=options.precision,
            checkpoint=checkpoint,
            use_cache=not options.no_cache,
            **self._of_the_network(),
        )
        if skipped:
            self.skipped[path] = skipped
        return moments.stats(self._ddof())

    def sample(self, path: str) -> Features | Moments | GaussianStats:
        """The features themselves, or blocks of them, where they are to be had."""
        if not images.holds_images(path):
            content = formats.read(path)
            if isinstance(content, formats.Checkpoint) and content.progress is None:
                return Moments._of_blocks(content.blocks, content.extractor or self._options.extractor)
            if not isinstance(content, formats.Features):
                return self.stats(path)
            return replace(content, extractor=content.extractor or self._options.extractor)
        from fidfast.torch import features_of_images

        found = features_of_images(path, **self._of_the_network())
        if found.skipped:
            self.skipped[path] = found.skipped
        return Features(found.features, found.extractor)

    def _of_the_network(self) -> dict[str, Any]:
        """Arguments of what makes features of images."""
        from fidfast.torch import load_extractor
        from fidfast.torch.run import usual_workers

        options = self._options
        if self._extractor is None:
            sys.path.insert(0, "")  # as for `python -m`: the user's own modules lie in the folder where this is typed
            self._extractor = load_extractor(
                options.extractor or "inception", weights=options.weights, like=options.like, resize=options.resize
            )
        return {
            "extractor": self._extractor,
            "batch_size": options.batch_size,
            "num_workers": usual_workers(options.device) if options.num_workers is None else options.num_workers,
            "device": options.device,
            "precision": "bfloat16" if options.bfloat16 else None,
            "compile": {"yes": True, "no": False}.get(options.compile, "auto"),
            "skip_broken": options.skip_broken,
            "progress": not options.quiet,
        }

    def _ddof(self) -> int:
        """What the tool that is to be matched subtracts from the number of samples."""
        if self._options.like is None:
            return 1
        from fidfast.torch import LIKE

        if self._options.like not in LIKE:
            raise ValueError(f"unknown tool {self._options.like!r}; known are {', '.join(LIKE)}")
        return LIKE[self._options.like].ddof

    def require_images(self, *paths: str) -> None:
        """Options of images are refused where there are none, instead of being passed over."""
        given = [name for name in IMAGE_OPTIONS if getattr(self._options, name) not in (None, False)]
        if given and not any(map(images.holds_images, paths)):
            option = "--" + given[0].replace("_", "-")
            raise ValueError(f"{option} is an option of images, and there are none in {' or '.join(paths)}")

    def report_skipped(self) -> None:
        for path, messages in self.skipped.items():
            print(f"{path}: {len(messages)} broken images left out")
            for message in messages:
                print(f"  {message}")


def _fid(options: argparse.Namespace) -> None:
    sources = _Sources(options)
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


def _print_estimate(options: argparse.Namespace, sources: _Sources) -> None:
    if options.like is not None:
        raise ValueError("--estimate is of the unbiased covariance; it does not go with --like")
    a, b = sources.sample(options.a), sources.sample(options.b)
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


def _stats(options: argparse.Namespace) -> None:
    sources = _Sources(options)
    sources.require_images(options.source)
    out = options.out.removesuffix(".npz")
    if not Path(out).parent.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {Path(out).parent}")
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
        return known
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
    from fidfast import demo

    result = demo.run(progress=not options.quiet)
    print(f"Fréchet distance of {result.num_samples} handwritten digits to their disturbed copies")
    print(f"(features of {result.extractor}; between two halves of the data it is {result.halves:.2f})\n")
    print(demo.table(result))
    demo.plot(result, Path(options.out))
    print(f"\nplot: {options.out}")


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"fidfast: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
