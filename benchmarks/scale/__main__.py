"""Measure, write ``benchmarks/results/scale-<machine>.json``, and update tables and plot of docs/scale.md.

``--quick`` is a trial run with few rows, which writes nothing.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks import machine
from benchmarks.scale import merging, rates, tables, trees
from benchmarks.scale.costs import Rates

#: That of the Inception network, and a small one.
DIMS = (2048, 512)


def measure(quick: bool) -> dict[str, Any]:
    """All results, in JSON types."""
    dims = (64, 32) if quick else DIMS
    repeats = 1 if quick else 3
    numbers = [10_000, 20_000] if quick else [10_000, 30_000, 100_000, 300_000, 1_000_000]
    results: dict[str, Any] = {"machine": machine.description(), "over_samples": {}, "rates": {}}
    for dim in sorted(dims):  # so that no memory of a larger dim is free
        points = rates.over_samples(dim, numbers, repeats)
        slope = rates.exponent(points, "n", "seconds")
        print(f"dim {dim}: seconds grow with n^{slope:.3f}; {points}", flush=True)
        results["over_samples"][str(dim)] = {"points": points, "exponent": slope}
    n = 20_000 if quick else 200_000
    points = rates.over_workers(dims[0], n, (1, 2), repeats)
    print(f"workers: {points}", flush=True)
    results["over_workers"] = {"n": n, "points": points}
    for dim in dims:
        per_row = rates.over_workers(dim, n, (1,), repeats)[0]["seconds"] / n
        measured = Rates(
            dim, per_row, rates.merge(dim, repeats), rates.distance(dim, repeats), float(rates.state_bytes(dim))
        )
        print(measured, flush=True)
        results["rates"][str(dim)] = measured._asdict()
    orders, rows = (2, 2_048) if quick else (20, 65_536)
    parts = [1, 8, 64] if quick else [2**k for k in range(11)]
    points = trees.over_parts(parts, n=rows, dim=32, orders=orders, offset=10.0)
    print(f"parts: {points}", flush=True)
    results["over_parts"] = {"n": rows, "orders": orders, "points": points}
    results["merging"] = merging.measure(*((8, 64) if quick else (1024, 2048)))
    print(f"merging: {results['merging']}", flush=True)
    return results


def main() -> None:
    """See the docstring of the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a trial run with few rows, which writes nothing")
    parser.add_argument(
        "--write", action="store_true", help="only update docs/scale.md from the results of this machine"
    )
    options = parser.parse_args()
    path = machine.RESULTS / f"scale-{machine.name()}.json"
    results = json.loads(path.read_text()) if options.write else measure(options.quick)
    if options.quick:
        print("\n".join(tables.sections(results).values()))
        return
    path.write_text(json.dumps(results, indent=1) + "\n")
    tables.update_page(results)


if __name__ == "__main__":
    main()
