"""The tables of docs/scale.md, computed from results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.scale.costs import Rates, cost, crossovers
from benchmarks.scale.plot import plot

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
PICTURE = machine.RESULTS / "scale.png"


def update_page(results: dict[str, Any]) -> None:
    """Replace the tables of the page, which are between comments, and the plot."""
    text = PAGE.read_text()
    for name, table in sections(results).items():
        text, number = re.subn(
            rf"(<!-- {name}: [^>]* -->\n).*?(<!-- end -->)",
            lambda match, table=table: f"{match[1]}\n{table}\n\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
        if number != 1:
            raise ValueError(f"{PAGE} has {number} places for the table {name!r}, needs 1")
    PAGE.write_text(text)
    dim = next(iter(results["rates"]))
    plot(results, int(dim)).savefig(PICTURE, dpi=110)


def sections(results: dict[str, Any]) -> dict[str, str]:
    """The tables in Markdown, by name."""
    rates = {dim: Rates(**each) for dim, each in results["rates"].items()}
    first = next(iter(rates.values()))
    return {
        "costs": _costs(first),
        "rates": _rates(rates),
        "crossovers": _crossovers(rates),
        "slopes": _slopes(results),
        "parts": _parts(results["over_parts"]),
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _costs(rates: Rates) -> str:
    rows = []
    for n, workers in ((1e6, 1), (1e6, 8), (1e8, 64), (1e8, 1024), (1e10, 1024), (1e10, 8192)):
        each = cost(rates, n, workers)
        seconds = [each[name] for name in ("update_seconds", "tree_seconds", "distance_seconds")]
        rows.append(
            [
                f"10^{len(str(int(n))) - 1}",
                f"{workers:,}",
                _bytes(each["features_bytes"]),
                _bytes(each["moments_bytes"]),
                _bytes(each["network_bytes"]) if workers > 1 else "0",
                *map(_seconds, seconds),
            ]
        )
    return _table(
        ["samples", "workers", "features", "moments of a worker", "sent in all", "updates", "tree", "distance"], rows
    )


def _rates(rates: dict[str, Rates]) -> str:
    rows = [
        [
            dim,
            f"{1 / each.row:,.0f} rows a second",
            _seconds(each.merge),
            _bytes(each.state),
            _seconds(each.state / each.network),
            _seconds(each.distance),
        ]
        for dim, each in rates.items()
    ]
    return _table(["dim", "update, one thread", "merge", "moments", "sent at 10 Gbit/s", "distance"], rows)


def _crossovers(rates: dict[str, Rates]) -> str:
    rows = []
    for dim, each in rates.items():
        found = crossovers(each)
        rows.append([dim, *(f"{found[name]:,.0f}" for name in ("merge", "hop", "distance", "stored"))])
    return _table(["dim", "a merge", "sending and merging a part", "the distance", "bytes of the moments"], rows)


def _slopes(results: dict[str, Any]) -> str:
    rows = []
    for dim, each in results["over_samples"].items():
        first, last = each["points"][0], each["points"][-1]
        rows.append(
            [
                f"time over n, dim {dim}",
                f"n^{each['exponent']:.3f} from {first['n']:,} to {last['n']:,} rows",
                f"n^1: {last['seconds']:.2f} s for {last['n']:,} rows",
            ]
        )
        rows.append(
            [
                f"memory over n, dim {dim}",
                f"{first['bytes'] / 1e6:.0f} MB at {first['n']:,} rows, {last['bytes'] / 1e6:.0f} MB at {last['n']:,}",
                "constant",
            ]
        )
    one, two = results["over_workers"]["points"][:2]
    rows.append(
        [
            f"time over workers, {results['over_workers']['n']:,} rows",
            f"{one['seconds'] / two['seconds']:.2f} times as fast with 2 workers as with 1",
            "2",
        ]
    )
    found = results["merging"]
    rows.append(
        [
            f"merging {found['parts']:,} files of dim {found['dim']}",
            f"{found['seconds']:.1f} s, peak memory {found['bytes'] / 1e6:.0f} MB",
            "time linear in the number of files, memory in its logarithm",
        ]
    )
    return _table(["", "measured", "expected"], rows)


def _parts(found: dict[str, Any]) -> str:
    eps = 2.0**-52
    rows = [
        [
            f"{point['parts']:,}",
            str(point["levels"]),
            *(f"{point[name] / eps:.1f}" for name in ("sequence", "tree", "random orders")),
        ]
        for point in found["points"]
    ]
    orders = f"tree, worst of {found['orders']} random orders"
    return _table(["parts", "levels of the tree", "one after the other", "tree", orders], rows)


def _bytes(number: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e3:.3g} kB"


def _seconds(number: float) -> str:
    if number == 0:
        return "0"
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if number >= 2 * size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.2g} s" if number >= 0.1 else f"{number * 1e3:.2g} ms"
