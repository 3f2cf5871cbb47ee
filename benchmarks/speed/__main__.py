"""Run all timings, print the table of speed-ups, write ``benchmarks/results/<machine>.json``.

With ``-k`` only a part is run; other groups in the file stay unchanged. A speed-up compares cases of one run.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from benchmarks.speed import claims

#: Options of trial runs, whose figures are not written.
TRIAL = ("--dim", "--images")


def run_timings(folder: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """The report of pytest-benchmark on each case."""
    report = folder / "report.json"
    here = Path(__file__).parent
    options = ["-q", "-p", "no:cacheprovider", "--benchmark-columns=min,median,rounds", f"--benchmark-json={report}"]
    code = pytest.main([str(here), *options, *arguments])
    if code != 0:
        raise SystemExit(int(code))
    cases: list[dict[str, Any]] = json.loads(report.read_text())["benchmarks"]
    return cases


def main() -> None:
    """See the docstring of the module; arguments are passed to pytest (``--dim 512``)."""
    with tempfile.TemporaryDirectory() as folder:
        cases = run_timings(Path(folder), sys.argv[1:])
    times: dict[tuple[str, str], dict[str, Any]] = {}
    memory: dict[str, float] = {}
    notes: dict[str, str] = {}
    for case in cases:
        extra, tool = case["extra_info"], (case["params"] or {}).get("tool", "fidfast")
        if "memory_of" in extra:
            memory[extra["memory_of"]] = round(extra["megabytes_above_the_interpreter"], 1)
            continue
        if "text" in extra:
            notes[case["group"]] = extra["text"]
        stats = case["stats"]
        times[case["group"], tool] = {"seconds": stats["min"], "median": stats["median"], "rounds": stats["rounds"]}
    table = claims.lines({case: time["seconds"] for case, time in times.items()})
    print(f"\n{'task':50} {'other tool':46} {'its time':>9} {'fidfast':>9} {'speed-up':>8}")
    for line in table:
        columns = f"{line['tool_s']:8.3f}s {line['fidfast_s']:8.3f}s {line['speed_up']:7.1f}x"
        print(f"{line['task']:50} {line['tool']:46} {columns}")
    for group, note in notes.items():
        print(f"{group}: {note}")
    for task, megabytes in memory.items():
        print(f"peak memory of {task}: {megabytes} MB above that of the interpreter")
    if any(argument.startswith(TRIAL) for argument in sys.argv[1:]):
        return
    path = machine.RESULTS / f"{machine.name()}.json"
    before = json.loads(path.read_text()) if path.exists() else {"cases": []}
    groups = {group for group, _ in times}
    others = [case for case in before["cases"] if case["group"] not in groups]
    cases = others + [{"group": group, "tool": tool, **time} for (group, tool), time in times.items()]
    results = {
        "machine": machine.description(),
        "speed_ups": claims.lines({(case["group"], case["tool"]): case["seconds"] for case in cases}),
        "notes": before.get("notes", {}) | notes,
        "memory_mb": before.get("memory_mb", {}) | memory,
        "cases": cases,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
