"""Command line of the experiments: ``list``, ``run`` and ``report``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.gans import data, experiment, report
from benchmarks.gans.work import Work


def main() -> int:
    """See the docstring of the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gans", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("gans-results"), help="folder of results (default: %(default)s)"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="one line for each experiment: name, claim, time of quick and full")
    run_parser = commands.add_parser("run", help="run an experiment; writes JSON and plot")
    run_parser.add_argument("name", help="name of the experiment, or 'all'")
    run_parser.add_argument(
        "--full", action="store_true", help="the settings of the committed results (default: quick)"
    )
    run_parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds")
    run_parser.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    run_parser.add_argument(
        "--processes", type=int, metavar="N", help="parts at a time (default: quick 1, full all cores)"
    )
    run_parser.add_argument("--data", type=Path, action="append", default=[], metavar="PATH", help=data.HELP)
    report_parser = commands.add_parser("report", help="write one page of all results")
    report_parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report as Markdown too")
    arguments = parser.parse_args()
    try:
        if arguments.command == "list":
            print(listing())
        elif arguments.command == "run":
            names = experiment.NAMES if arguments.name == "all" else (arguments.name,)
            data.add_folders(arguments.data)
            for name in names:
                run(arguments, name)
        else:
            path = report.write(arguments.out, markdown=arguments.markdown)
            print(f"wrote {path}")
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; --resume continues the run", file=sys.stderr)
        return 130
    return 0


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


def run(arguments: argparse.Namespace, name: str) -> None:
    """Run an experiment, write its result, and print its claims."""
    module = experiment.load(name)
    name = module.__name__.rpartition(".")[2]
    preset = "full" if arguments.full else "quick"
    settings = experiment.settings_of(module, full=arguments.full, seeds=arguments.seeds)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    work = Work(
        arguments.out / "work" / experiment.file_stem(name, preset),
        settings,
        resume=arguments.resume,
        processes=arguments.processes or (cores if arguments.full else 1),
        progress=True,
    )
    start = time.perf_counter()
    result = module.run(settings, work)
    seconds = work.seconds_before + time.perf_counter() - start
    stored = experiment.write(arguments.out, name, result, preset=preset, seconds=seconds)
    print(f"{experiment.shown_name(name)}, {preset}: {shown_time(seconds)}, {stored.plot_path}")
    for sentence in module.claim(result):
        print(f"  {'holds' if sentence.holds else 'FAILS'}  {sentence.text}")


if __name__ == "__main__":
    sys.exit(main())
