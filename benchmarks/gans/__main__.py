"""Command line of the experiments: ``list``, ``run`` and ``report``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from benchmarks.gans import data, experiment, report
from benchmarks.gans.work import CannotResumeError, Work

_NEEDS = "pip install -c constraints.txt '.[test]'"


def main() -> int:
    """See the docstring of the module."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        if arguments.command == "list":
            print(listing())
            return 0
        if arguments.command == "report":
            print(f"wrote {report.write(arguments.out, markdown=arguments.markdown)}")
            return 0
        return _run(arguments)
    except ImportError as error:
        print(f"error: {error}; the experiments need the packages of the tests: {_NEEDS}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume continues the run", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gans", description=__doc__)
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, default=Path("gans-results"), help="folder of results (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="one line for each experiment: name, claim, time of quick and full")
    run = commands.add_parser("run", parents=[out], help="run an experiment; writes JSON and plot")
    run.add_argument("name", help="name of the experiment, or 'all'")
    run.add_argument("--full", action="store_true", help="the settings of the committed results (default: quick)")
    run.add_argument("--seeds", type=int, metavar="N", help="number of seeds")
    run.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    run.add_argument("--processes", type=int, metavar="N", help="parts at a time (default: quick 1, full all cores)")
    run.add_argument("--data", type=Path, action="append", default=[], metavar="PATH", help=data.HELP)
    report_parser = commands.add_parser("report", parents=[out], help="write one page of all results")
    report_parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the committed results as Markdown too"
    )
    return parser


def _terminate(*_: object) -> NoReturn:
    sys.exit("terminated; --resume continues the run")


def listing() -> str:
    """One line for each experiment: name, claim, time of quick and full where these were run."""
    times = experiment.read_times(experiment.COMMITTED)
    lines = []
    for name in map(experiment.shown_name, experiment.NAMES):
        quick, full = (shown_time(times.get(name, {}).get(preset)) for preset in ("quick", "full"))
        lines.append(f"{name:17} {quick:>6} {full:>7}  {experiment.load(name).CLAIM}")
    return "\n".join([f"{'name':17} {'quick':>6} {'full':>7}  claim", *lines])


def shown_time(seconds: float | None) -> str:
    """Seconds or minutes, as text."""
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _run(arguments: argparse.Namespace) -> int:
    """Run one experiment or all; one whose data are missing does not stop the others."""
    status = 0
    try:
        data.add_folders(arguments.data)
        names = experiment.NAMES if arguments.name == "all" else (experiment.module_name(arguments.name),)
        for name in names:
            try:
                run(arguments, name)
            except FileNotFoundError as error:
                print(f"error: {experiment.shown_name(name)}: {error}", file=sys.stderr)
                status = 2
    except (CannotResumeError, experiment.InvalidArgumentError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    return status


def run(arguments: argparse.Namespace, name: str) -> None:
    """Run an experiment, write its result, and print its claims."""
    import matplotlib  # noqa: F401  # used at the end; better to fail now
    import sklearn  # noqa: F401

    module = experiment.load(name)
    preset = "full" if arguments.full else "quick"
    settings = experiment.settings_of(module, full=arguments.full, seeds=arguments.seeds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with Work(
        arguments.out / "work" / experiment.file_stem(name, preset),
        settings,
        resume=arguments.resume,
        processes=arguments.processes or (cores if arguments.full else 1),
        progress=True,
    ) as work:
        result = module.run(settings, work)
    stored = experiment.write(arguments.out, name, result, preset=preset, seconds=work.seconds)
    print(f"{experiment.shown_name(name)}, {preset}: {shown_time(stored.seconds)}, {stored.plot_path}")
    for sentence in module.claim(stored.result):
        print(f"  {'holds' if sentence.holds else 'FAILS'}  {sentence.text}")


if __name__ == "__main__":
    sys.exit(main())
