"""Run every timing, print the table of ratios, write ``benchmarks/results/<machine>.json``.

With ``-k`` a part of them: groups that were not run stay as they are in the file. A ratio is between cases of one run.
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

#: Options with which figures are a trial's, and are not kept.
TRIAL = ("--dim", "--images")


def measured(folder: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """What pytest-benchmark writes about each case."""
    report = folder / "report.json"
    here = Path(__file__).parent
    options = ["-q", "-p", "no:cacheprovider", "--benchmark-columns=min,median,rounds", f"--benchmark-json={report}"]
    code = pytest.main([str(here), *options, *arguments])
    if code != 0:
        raise SystemExit(int(code))
    cases: list[dict[str, Any]] = json.loads(report.read_text())["benchmarks"]
    return cases


def main() -> None:
    """See the module's docstring; arguments go to pytest (``--dim 512``)."""
    with tempfile.TemporaryDirectory() as folder:
        cases = measured(Path(folder), sys.argv[1:])
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
    table = claims.lines({case: found["seconds"] for case, found in times.items()})
    print(f"\n{'work':42} {'against':46} {'theirs':>9} {'ours':>9} {'ratio':>7}")
    for line in table:
        columns = f"{line['theirs_s']:8.3f}s {line['ours_s']:8.3f}s {line['ratio']:6.1f}x"
        print(f"{line['work']:42} {line['against']:46} {columns}")
    for work, note in notes.items():
        print(f"{work}: {note}")
    for work, megabytes in memory.items():
        print(f"peak memory of {work}: {megabytes} MB above the interpreter's")
    if any(argument.startswith(TRIAL) for argument in sys.argv[1:]):
        return
    path = machine.RESULTS / f"{machine.name()}.json"
    before = json.loads(path.read_text()) if path.exists() else {"cases": []}
    groups = {group for group, _ in times}
    kept = [case for case in before["cases"] if case["group"] not in groups]
    cases = kept + [{"group": group, "tool": tool, **found} for (group, tool), found in times.items()]
    results = {
        "machine": machine.description(),
        "ratios": claims.lines({(case["group"], case["tool"]): case["seconds"] for case in cases}),
        "notes": before.get("notes", {}) | notes,
        "memory_mb": before.get("memory_mb", {}) | memory,
        "cases": cases,
    }
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
