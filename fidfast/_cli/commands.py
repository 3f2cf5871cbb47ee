"""The command line: ``fidfast fid | evaluate | report | stats | merge | info | cache | doctor | completion | demo``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from fidfast import _core
from fidfast._cli.argument_types import precision_of_rows
from fidfast._cli.arguments import parse
from fidfast._cli.cache import update_cache
from fidfast._cli.completion import print_completion
from fidfast._cli.evaluation import print_evaluation
from fidfast._cli.failures import write_error
from fidfast._cli.output import Output, or_unknown
from fidfast._cli.signals import Terminated, ending_commands
from fidfast._cli.sources import Sources, ddof_of
from fidfast._cli.statistics import merge_moments, write_stats
from fidfast._cli.torchrun import Launch, launch_of
from fidfast._environment import environment
from fidfast._feature_demo import demo_of_features
from fidfast._files import require_writable
from fidfast._info import file_info
from fidfast._inputs import Input
from fidfast._metrics.frechet import FrechetTerms, frechet_terms
from fidfast._metrics.uncertainty import Estimate, estimate, estimate_with_terms
from fidfast._report import report
from fidfast._results import distance_label, rounding_text
from fidfast._stats import GaussianStats

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns
    -------
    int
        The exit code: 0; 1 after an error, whose message is one line on standard error, and if the result could not be
        written to standard output; 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

    Raises
    ------
    SystemExit
        With exit code 2 if the arguments cannot be parsed, and 0 after ``--help`` and ``--version``.
    """
    output, options = Output(), argparse.Namespace(command=None)
    launch = Launch() if arguments is not None else launch_of(dict(os.environ))
    if arguments is None:  # this process is the command: what Python itself adds to the path of child processes
        os.environ.setdefault("PYTHONSAFEPATH", "1")
    with ending_commands() as signals:
        try:
            options = launch.parse(lambda: parse(arguments), output)
            if not launch.takes_part_in(options.command):
                return 0
            # What a network prints must not mix with the result.
            with warnings.catch_warnings(), redirect_stdout(sys.stderr or StringIO()):
                warnings.simplefilter("always")
                warnings.showwarning = lambda message, *_, **__: output.warning(str(message))
                _run(options, output)
                launch.finish()
        except (Exception, KeyboardInterrupt) as error:
            # A signal that also ends the workers becomes an error of torch.
            ended = Terminated(signals[0]) if signals else error
            return launch.fail(ended, lambda: write_error(ended, options))
    return 1 if output.failed else 0


def _run(options: argparse.Namespace, output: Output) -> None:
    try:
        _COMMANDS[options.command](options, output)
    except SystemExit as error:  # of an extractor; it would end the command without a message
        raise RuntimeError(f"sys.exit({error.code!r}) was called") from error


def _fid(options: argparse.Namespace, output: Output) -> None:
    if options.estimate:
        _estimate(options, output)
        return
    sources = Sources(options, _two_paths(options), ddof=ddof_of(options))
    samples, reference = sources.stats("samples"), sources.stats("reference")
    if not options.launch.continues():
        return
    terms = _terms(samples, reference)
    extractors = (samples.extractor, reference.extractor)
    label = distance_label(*extractors)
    if options.json:
        counts = [samples.num_samples, reference.num_samples]
        numbers = {**terms.to_dict(), "dim": samples.dim, "num_samples": counts, "extractor": list(extractors)}
        _write_json(options, output, sources, label, numbers)
        return
    counts_text = f"{or_unknown(samples.num_samples)} and {or_unknown(reference.num_samples)}"
    facts = f"extractor {_names(*extractors)}, {rounding_text(terms.rounding)}"
    output.lines(
        [
            f"{label} {terms.distance_text}",
            f"dim {samples.dim}, num_samples {counts_text}, {facts}",
            *_given(terms.note, terms.caution),
            *sources.lines(),
        ]
    )


def _estimate(options: argparse.Namespace, output: Output) -> None:
    ddof = ddof_of(options)
    sources = Sources(options, _two_paths(options), rows=True)
    samples, reference = sources.samples("samples").source, sources.samples("reference").source
    if not options.launch.continues():
        return
    found = _with_ddof(estimate(samples, reference, precision=precision_of_rows(options)), samples, reference, ddof)
    label = distance_label(samples.extractor, reference.extractor)
    if options.json:
        _write_json(options, output, sources, label, found.to_dict())
        return
    lines = [f"{label} {found}"]
    if found.note is None:
        lines.append(f"with bias, as reported by {options.like or 'other tools'}: {found.value:.8g}")
    facts = f"extractor {_names(samples.extractor, reference.extractor)}, {rounding_text(found.rounding)}"
    output.lines([*lines, facts, *sources.lines()])


def _report(options: argparse.Namespace, output: Output) -> None:
    ddof = ddof_of(options)
    writes = [] if options.html is None else [options.html]
    sources = Sources(options, _two_paths(options), images_of_samples=options.images, writes=writes, rows=True)
    samples, reference = sources.samples("samples"), sources.samples("reference")
    if not options.launch.continues():
        return
    found = report(
        samples.source,
        reference.source,
        names=samples.names,
        images=samples.images,
        reference_names=reference.names,
        reference_images=reference.images,
        command=options.command_line,
        progress=not options.quiet,
        titles=(options.samples, options.reference),
        all_pairs=not options.no_pairs,
        precision=precision_of_rows(options),
    )
    found = replace(found, estimate=_with_ddof(found.estimate, samples.source, reference.source, ddof))
    if options.json:
        _write_json(options, output, sources, found.label, found.to_dict())
    else:
        output.lines(found.table().split("\n"))
    # The page is written after the numbers, which must not depend on it.
    if options.html is not None:
        found.write_html(options.html)
    if not options.json:
        output.lines([*([] if options.html is None else ["", f"page: {options.html}"]), *sources.lines()])


def _info(options: argparse.Namespace, output: Output) -> None:
    facts = file_info(options.file).to_dict()
    if options.json:
        output.json(facts)
        return
    keys, parts, entries = facts.pop("keys", ()), facts.pop("parts", {}), facts.pop("entries", {})
    facts.update({"keys": "  ".join(keys)} if keys else {})
    facts.update({f"part {key}": _described(part) for key, part in parts.items()})
    facts.update({f"entry {key}": entry for key, entry in entries.items() if key})
    width = max(map(len, facts))
    output.lines(f"{name:{width}}  {_shown(value)}" for name, value in facts.items())


def _cache(options: argparse.Namespace, output: Output) -> None:
    found = update_cache(options)
    if options.json:
        output.json(found.to_dict())
    else:
        output.lines(found.table().split("\n"))


def _doctor(options: argparse.Namespace, output: Output) -> None:
    found = environment()
    if options.json:
        output.json(found.to_dict())
    else:
        output.lines(found.table().split("\n"))


def _demo(options: argparse.Namespace, output: Output) -> None:
    if options.features:
        found = demo_of_features()
        if options.json:
            output.json({**found.to_dict(), "fidfast_version": _core.__version__})
        else:
            output.lines([str(found), "", *found.table().split("\n"), "", f"The features: {found.origin}."])
        return
    from fidfast.torch import demo
    from fidfast.torch._demo import plot_paths

    plots = plot_paths(options.out)
    for path in plots:
        require_writable(path)
    _check_plot_format(plots[0])
    result = demo(progress=not options.quiet)
    if options.json:
        files = [str(path) for path in plots]
        output.json({**result.to_dict(), "plots": files, "fidfast_version": _core.__version__})
    else:
        output.lines([str(result), "", *result.table().split("\n")])
    result.save_plots(options.out)
    if not options.json:
        output.lines(["", f"plots: {' and '.join(map(str, plots))}"])


def _check_plot_format(path: Path) -> None:
    with suppress(ImportError):  # which `demo` explains
        from matplotlib.backend_bases import FigureCanvasBase

        formats = FigureCanvasBase.get_supported_filetypes()
        if path.suffix[1:].lower() not in formats:
            raise ValueError(f"{path}: unknown format of plots {path.suffix!r}; supported are {', '.join(formats)}")


_COMMANDS = {
    "fid": _fid,
    "evaluate": print_evaluation,
    "report": _report,
    "stats": write_stats,
    "merge": merge_moments,
    "info": _info,
    "cache": _cache,
    "doctor": _doctor,
    "completion": print_completion,
    "demo": _demo,
}


# Results -------------------------------------------------------------------------------------------------------------


def _terms(samples: GaussianStats, reference: GaussianStats) -> FrechetTerms:
    if None not in (samples.ddof, reference.ddof) and samples.ddof != reference.ddof:
        message = f"the covariance of samples has ddof {samples.ddof}, that of reference has ddof {reference.ddof}"
        warnings.warn(message, stacklevel=1)
    return frechet_terms(samples, reference)


def _with_ddof(estimate: Estimate, samples: Input, reference: Input, ddof: int) -> Estimate:
    """The estimate with the value and bias of covariances with this `ddof`, of which `unbiased` is independent."""
    if ddof == 1:
        return estimate
    return estimate_with_terms(estimate, _terms(samples.stats_with(ddof=ddof), reference.stats_with(ddof=ddof)))


def _write_json(
    options: argparse.Namespace, output: Output, sources: Sources, label: str, numbers: Mapping[str, Any]
) -> None:
    files = [options.samples, options.reference]
    like = {} if options.like is None else {"like": options.like}
    common = {**like, "files": files, **sources.facts(), "fidfast_version": _core.__version__}
    output.json({"label": label, **numbers, **common})


def _given(*texts: str | None) -> Iterator[str]:
    yield from (text for text in texts if text is not None)


def _names(*extractors: str | None) -> str:
    """The distinct names, joined by "and"."""
    return " and ".join(dict.fromkeys(map(or_unknown, extractors)))


def _shown(value: object) -> str:
    """A property of `info`; counts as ``RGB: 5, L: 2``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {number}" for key, number in value.items()) or "none"
    return or_unknown(value)


def _described(part: Mapping[str, Any]) -> str:
    """The properties of a part of a file: "statistics, dim 2048, ..."."""
    return ", ".join([part["holds"], *(f"{name} {or_unknown(part[name])}" for name in part if name != "holds")])


# Arguments -----------------------------------------------------------------------------------------------------------


def _two_paths(options: argparse.Namespace) -> dict[str, str]:
    return {"samples": options.samples, "reference": options.reference}
