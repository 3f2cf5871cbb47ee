"""Runs the fuzz in child processes, and prints the figures.

``python tests/fuzz/fuzz_run.py --calls 1000 --files 1000`` calls every function and reads a file of every format so
often; ``--help`` lists the options. The exit status is 1 if a call or a file had another outcome than a result or an
error that names the argument or the file.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

#: Seconds after which one call or file counts as hanging.
SECONDS = 60

#: Calls of each function in one process.
_PART = 50


@dataclass
class Figures:
    """Outcomes by function or format, and what went wrong."""

    counts: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    faults: list[str] = field(default_factory=list)

    def table(self) -> str:
        """A line for each function or format: calls, results, errors that are sentences, faults."""
        lines = ["| function or format | calls | results | errors | faults |", "|---|---|---|---|---|"]
        total = Counter()
        for name, counts in self.counts.items():
            total.update(counts)
            lines.append(_line(name, counts))
        return "\n".join([*lines, _line("total", total)])


def _line(name: str, counts: Counter) -> str:
    numbers = (sum(counts.values()), counts["result"], counts["error"], counts["fault"])
    return f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |"


def run(
    *,
    calls: int,
    files: int,
    seed: int = 0,
    only: str = "",
    options: tuple[str, ...] = (),
    sanitized: bool = False,
    seconds: int = SECONDS,
    out: Path | None = None,
) -> Figures:
    """Fuzz the functions and formats.

    Parameters
    ----------
    calls, files : int
        Calls of every function, and damaged files of every format.
    seed : int
    only : str
        A part of the names of the functions and formats.
    options : tuple of str
        Options of the interpreter, such as ``("-X", "dev")``.
    sanitized : bool
        Whether the memory is not limited, as sanitizers need it.
    seconds : int
        After which one call counts as hanging.
    out : path, optional
        File to which the table and the faults are written after every 50 calls of each function.
    """
    figures = Figures()
    common = {"seed": seed, "only": only, "sanitized": sanitized, "seconds": seconds}
    for first in range(0, max(calls, files), _PART):
        counts = {what: max(0, min(_PART, n - first)) for what, n in (("calls", calls), ("files", files))}
        _run_part(figures, {**common, **counts, "first": first}, options)
        if out is not None:
            out.write_text("\n\n".join([figures.table(), *figures.faults]) + "\n")
    return figures


def _run_part(figures: Figures, job: dict, options: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *options, str(Path(__file__).with_name("fuzz_child.py"))]
        command.append(json.dumps({**job, "folder": folder}))
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        result = Path(folder, "result.json")
        if done.returncode != 0 or not result.exists():
            current = Path(folder, "current")
            where = current.read_text() if current.exists() else "the start"
            figures.faults.append(f"exit status {done.returncode} at {where}:\n{done.stderr[-4000:]}")
            figures.counts[where.split("(")[0].split(", seed")[0]]["fault"] += 1
            return
        found = json.loads(result.read_text())
        for key, number in found["counts"].items():
            name, kind = key.split("\t")
            figures.counts[name][kind] += number
        figures.faults += found["faults"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=100, help="calls of each function")
    parser.add_argument("--files", type=int, default=100, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="a part of the names of the functions or formats")
    parser.add_argument("--dev", action="store_true", help="run under python -X dev")
    parser.add_argument("--sanitized", action="store_true", help="with an extension built for sanitizers")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="after which a call counts as hanging")
    parser.add_argument("--out", type=Path, help="write the table and the faults to this file while the fuzz runs")
    given = parser.parse_args()
    figures = run(
        calls=given.calls,
        files=given.files,
        seed=given.seed,
        only=given.only,
        options=("-X", "dev") if given.dev else (),
        sanitized=given.sanitized,
        seconds=given.seconds,
        out=given.out,
    )
    print("\n\n".join([figures.table(), *figures.faults]))
    return int(bool(figures.faults))


if __name__ == "__main__":
    sys.exit(main())
