"""Run every timing, print the table of ratios, write ``benchmarks/results/<machine>.json``."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, peers


def measured(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """What pytest-benchmark writes about one run of all cases."""
    report = folder / "report.json"
    here = Path(__file__).parent
    options = ["-q", "-p", "no:cacheprovider", "--benchmark-columns=min,median,rounds", f"--benchmark-json={report}"]
    code = pytest.main([str(here), *options, *arguments])
    if code != 0:
        raise SystemExit(int(code))
    return json.loads(report.read_text())


def table(cases: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each claim: whose time over whose, from the fastest round of each."""

    def seconds(group: str, tool: str = "fidfast") -> float:
        return cases[group, tool]["seconds"]

    eigenvalues = min(("torch-fidelity", "torchmetrics"), key=lambda tool: seconds("distance", tool))
    claims = [
        ("distance of two covariances", "pytorch-fid (SciPy sqrtm)", ("distance", "pytorch-fid"), "distance"),
        ("the same", f"{eigenvalues} (eigenvalues of the product)", ("distance", eigenvalues), "distance"),
        (
            "the same, the reference's factor kept",
            f"{eigenvalues} (eigenvalues of the product)",
            ("distance", eigenvalues),
            "distance, reference kept",
        ),
        (
            "features of 2 x 10,000 rows to a distance",
            "pytorch-fid's functions",
            ("features to distance", "pytorch-fid"),
            "features to distance",
        ),
        (
            "updates of 100 rows of float32",
            "torchmetrics' update",
            ("200 updates of 100 rows", "torchmetrics"),
            "200 updates of 100 rows",
        ),
        (
            "precision and recall of 2 x 10,000 rows",
            "torch-fidelity's functions",
            ("precision and recall", "torch-fidelity"),
            "precision and recall",
        ),
        (
            "precision, recall, density and coverage",
            "prdc",
            ("precision, recall, density and coverage", "prdc"),
            "precision, recall, density and coverage",
        ),
        ("MiFID of 2 x 10,000 rows", "torchmetrics' functions", ("MiFID", "torchmetrics"), "MiFID"),
    ]
    whole, subsets = "kernel distance of whole sets", "kernel distance of 100 subsets"
    peer = min(peers.WHOLE_KIDS, key=lambda tool: seconds(whole, tool))
    claims.append((f"{whole}, 2 x 10,000 rows", f"{peer}'s function", (whole, peer), whole))
    lines = [(work, peer, seconds(*theirs), seconds(ours)) for work, peer, theirs, ours in claims]
    for tool in peers.SUBSET_KIDS:
        lines.append((f"{subsets}, the same subsets", tool, seconds(subsets, tool),
                      seconds(subsets, f"fidfast like {tool}")))  # fmt: skip
    folders = "folders to a number"
    for peer, ours, work in (
        ("pytorch-fid", "fidfast like pytorch-fid", "two folders of images to the same number"),
        ("torch-fidelity", "fidfast like torch-fidelity", "two folders of images to the same number"),
        ("pytorch-fid", "fidfast bfloat16", "the same in bfloat16"),
    ):
        lines.append((work, f"{peer}'s command" if peer == "pytorch-fid" else f"{peer}'s calculate_metrics",
                      seconds(folders, peer), seconds(folders, ours)))  # fmt: skip
    return [
        {"work": work, "against": peer, "theirs_s": theirs, "ours_s": ours, "ratio": theirs / ours}
        for work, peer, theirs, ours in lines
    ]


def main() -> None:
    """See the module's docstring; arguments go to pytest (``--dim 512``)."""
    with tempfile.TemporaryDirectory() as folder:
        report = measured(Path(folder), sys.argv[1:])
    cases, memory, memory_of_sets = {}, {}, {}
    for case in report["benchmarks"]:
        parameters = case["params"] or {}
        if "rows" in parameters:
            memory[str(parameters["rows"])] = round(case["extra_info"]["megabytes_above_the_interpreter"], 1)
            continue
        if "function" in parameters:
            memory_of_sets[parameters["function"]] = round(case["extra_info"]["megabytes_above_the_interpreter"], 1)
            continue
        times = case["stats"]
        cases[case["group"], parameters.get("tool", "fidfast")] = {
            "seconds": times["min"], "median": times["median"], "rounds": times["rounds"],
        }  # fmt: skip
    lines = table(cases)
    print(f"\n{'work':42} {'against':46} {'theirs':>9} {'ours':>9} {'ratio':>7}")
    for line in lines:
        columns = f"{line['theirs_s']:8.3f}s {line['ours_s']:8.3f}s {line['ratio']:6.1f}x"
        print(f"{line['work']:42} {line['against']:46} {columns}")
    for rows, megabytes in memory.items():
        print(f"peak memory of a stream of {int(rows):,} rows: {megabytes} MB above the interpreter's")
    for function, megabytes in memory_of_sets.items():
        print(f"peak memory of {function} of 2 x 10,000 rows, which included: {megabytes} MB above the interpreter's")
    if any(argument.startswith("--dim") for argument in sys.argv[1:]):
        return  # a trial, not the figures to keep
    results = {
        "machine": machine.description(),
        "ratios": lines,
        "memory_mb": memory,
        "memory_of_two_sets_mb": memory_of_sets,
        "cases": [{"group": group, "tool": tool, **times} for (group, tool), times in cases.items()],
    }
    path = machine.RESULTS / f"{machine.name()}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


if __name__ == "__main__":
    main()
