"""The command line: ``fidfast fid | report | stats | info | demo``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fidfast import _core
from fidfast._cli.arguments import parser
from fidfast._cli.sources import Sources, require_images
from fidfast._info import file_info
from fidfast._metrics.frechet import frechet_terms
from fidfast._metrics.uncertainty import estimate
from fidfast._report import report
from fidfast._results import distance_label, rounding_text

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        The exit code: 0, or 1 after an error, whose message is one line on standard error.
    """
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _show_warning
            _COMMANDS[options.command](options)
    except BrokenPipeError:  # the reader of the output, for example head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("fidfast: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, ImportError, MemoryError, RuntimeError) as error:
        print(f"fidfast: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _fid(options: argparse.Namespace) -> None:
    require_images(options, options.samples, options.reference)
    if options.estimate:
        _estimate(options)
        return
    sources = Sources(options)
    samples = sources.stats(options.samples, "samples")
    reference = sources.stats(options.reference, "reference")
    if None not in (samples.ddof, reference.ddof) and samples.ddof != reference.ddof:
        message = f"the covariance of samples has ddof {samples.ddof}, that of reference has ddof {reference.ddof}"
        warnings.warn(message, stacklevel=1)
    terms = frechet_terms(samples, reference)
    extractors = (samples.extractor, reference.extractor)
    label = distance_label(*extractors)
    if options.json:
        counts = [samples.num_samples, reference.num_samples]
        numbers = {**terms.to_dict(), "dim": samples.dim, "num_samples": counts, "extractor": list(extractors)}
        _print_json(options, sources, label, numbers)
        return
    print(f"{label} {terms.distance_text}")
    counts_text = f"{_or_unknown(samples.num_samples)} and {_or_unknown(reference.num_samples)}"
    print(
        f"dim {samples.dim}, num_samples {counts_text}, extractor {_names(*extractors)}, "
        f"{rounding_text(terms.rounding)}"
    )
    for line in (terms.note, terms.caution):
        if line is not None:
            print(line)
    _print_skipped(sources)


def _estimate(options: argparse.Namespace) -> None:
    _refuse_like(options, "--estimate")
    sources = Sources(options)
    samples = sources.samples(options.samples, "samples").source
    reference = sources.samples(options.reference, "reference").source
    found = estimate(samples, reference, precision=options.precision)
    label = distance_label(samples.extractor, reference.extractor)
    if options.json:
        _print_json(options, sources, label, found.to_dict())
        return
    print(f"{label} {found}")
    if found.note is None:
        print(f"with bias, as reported by other tools: {found.value:.8g}")
    extractors = _names(samples.extractor, reference.extractor)
    print(f"extractor {extractors}, {rounding_text(found.rounding)}")
    _print_skipped(sources)


def _report(options: argparse.Namespace) -> None:
    require_images(options, options.samples, options.reference)
    _refuse_like(options, "report")
    if options.html is not None:
        _require_folder(options.html)
    sources = Sources(options)
    samples = sources.samples(options.samples, "samples", options.images)
    reference = sources.samples(options.reference, "reference")
    found = report(
        samples.source,
        reference.source,
        names=samples.names,
        images=samples.images,
        titles=(options.samples, options.reference),
        all_pairs=not options.no_pairs,
        precision=options.precision,
    )
    if options.html is not None:
        found.write_html(options.html)
    if options.json:
        _print_json(options, sources, found.label, found.to_dict())
        return
    print(found.table())
    if options.html is not None:
        print(f"\npage: {options.html}")
    _print_skipped(sources)


def _stats(options: argparse.Namespace) -> None:
    require_images(options, options.source)
    out = options.out.removesuffix(".npz")
    _require_folder(out)
    sources = Sources(options)
    stats = sources.stats(options.source, "source", checkpoint=f"{out}.partial.npz")
    stats.save(options.out)
    counts = f"dim {stats.dim}, num_samples {_or_unknown(stats.num_samples)}"
    print(f"{out}.npz: {counts}, extractor {_or_unknown(stats.extractor)}")
    if stats.caution is not None:
        print(stats.caution)
    _print_skipped(sources)


def _info(options: argparse.Namespace) -> None:
    entries = file_info(options.file).to_dict()
    if options.json:
        print(json.dumps(entries, ensure_ascii=False))
        return
    width = max(map(len, entries))
    for key, value in entries.items():
        print(f"{key:{width}}  {_or_unknown(value)}")


def _demo(options: argparse.Namespace) -> None:
    from fidfast.torch import demo

    _require_folder(options.out)
    result = demo(progress=not options.quiet)
    print(f"{result}\n\n{result.table()}")
    print(f"\nplots: {' and '.join(map(str, result.save_plots(options.out)))}")


_COMMANDS = {"fid": _fid, "report": _report, "stats": _stats, "info": _info, "demo": _demo}


def _refuse_like(options: argparse.Namespace, what: str) -> None:
    if options.like is not None:
        raise ValueError(f"{what} uses the unbiased covariance and cannot be combined with --like")


def _require_folder(path: str) -> None:
    """Raise before any work if the result cannot be written."""
    if not Path(path).parent.is_dir():
        raise FileNotFoundError(f"no such folder to write to: {Path(path).parent}")


def _print_json(options: argparse.Namespace, sources: Sources, label: str, numbers: Mapping[str, Any]) -> None:
    files = [options.samples, options.reference]
    common = {"files": files, "skipped": sources.skipped, "fidfast_version": _core.__version__}
    print(json.dumps({"label": label, **numbers, **common}, ensure_ascii=False))


def _print_skipped(sources: Sources) -> None:
    for path, messages in sources.skipped.items():
        images = "broken image" if len(messages) == 1 else "broken images"
        print(f"{path}: skipped {len(messages)} {images}")
        for message in messages:
            print(f"  {message}")


def _names(*extractors: str | None) -> str:
    """The distinct names, joined by "and"."""
    return " and ".join(dict.fromkeys(map(_or_unknown, extractors)))


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"fidfast: warning: {message}", file=sys.stderr)
