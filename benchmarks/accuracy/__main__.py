"""Print the error of the distance for each tool, and write it to ``benchmarks/results``.

The exact distance of each case is computed independently: commuting covariances, few rows (by singular values), equal
inputs, or singular values of the factors in float64. The error of fidfast must be within its own rounding bound.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

import fidfast
from benchmarks import machine, peers
from benchmarks.accuracy import uncertainty
from fidfast import GaussianStats

#: Real Inception features; cases that need them are skipped if the folder does not exist.
REAL = Path(__file__).parents[3] / "shared" / "features"

Array = NDArray[np.float64]


class Case(NamedTuple):
    """Two Gaussians and the exact distance between them."""

    name: str
    stats: tuple[GaussianStats, GaussianStats]
    exact: float

    @property
    def scale(self) -> float:
        """Sum of the traces."""
        return float(sum(np.trace(stats.sigma) for stats in self.stats))


def rotation(dim: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.standard_normal((dim, dim)))[0]


def stats_of(rows: NDArray, precision: str = "float64") -> GaussianStats:
    moments = fidfast.Moments(rows.shape[1], precision=precision)
    moments.update(rows)
    return moments.stats()


def distance_by_roots(a: GaussianStats, b: GaussianStats, root1: Array, root2: Array) -> float:
    trace = np.linalg.svd(root1.T @ root2, compute_uv=False).sum()
    return float(np.sum((a.mu - b.mu) ** 2) + np.trace(a.sigma) + np.trace(b.sigma) - 2 * trace)


def commuting(dim: int, condition: float, rng: np.random.Generator) -> Case:
    basis = rotation(dim, rng)
    values1, values2 = (condition ** -rng.permutation(np.linspace(0, 1, dim)) for _ in range(2))
    sigmas = [(basis * values) @ basis.T for values in (values1, values2)]
    stats = tuple(GaussianStats(np.zeros(dim), (sigma + sigma.T) / 2) for sigma in sigmas)
    return Case(f"condition {condition:.0e}, dim {dim}", stats, float(((values1**0.5 - values2**0.5) ** 2).sum()))


def few_rows(n: int, dim: int, rng: np.random.Generator) -> Case:
    sets = [rng.standard_normal((n, dim)) for _ in range(2)]
    centred = [(rows - rows.mean(0)).T / np.sqrt(n - 1) for rows in sets]
    stats = tuple(map(stats_of, sets))
    return Case(f"{n} rows in dim {dim}", stats, distance_by_roots(*stats, *centred))


def equal(n: int, dim: int, rng: np.random.Generator) -> Case:
    stats = stats_of(rng.standard_normal((n, dim)) * np.logspace(0, -3, dim))
    return Case(f"equal inputs, {n} rows in dim {dim}", (stats, GaussianStats(stats.mu, stats.sigma)), 0.0)


def real(precision: str) -> Case:
    sets = [np.load(REAL / f"emoji_{style}.npy") for style in ("google", "twitter")]
    exact = tuple(stats_of(rows) for rows in sets)
    alive = np.flatnonzero(np.diag(exact[0].sigma) * np.diag(exact[1].sigma))
    roots = [np.linalg.cholesky(each.sigma[np.ix_(alive, alive)]) for each in exact]
    stats = tuple(stats_of(rows, precision) for rows in sets)
    return Case(f"real features, dim 2048, {precision}", stats, distance_by_roots(*exact, *roots))


def cases(quick: bool) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    for condition in (1e3, 1e8):
        yield commuting(64, condition, rng)
    yield few_rows(40, 128, rng)
    yield equal(64, 64, rng)
    yield equal(640, 64, rng)
    if quick:
        return
    yield commuting(512, 1e8, rng)
    yield few_rows(300, 1024, rng)
    if REAL.exists():
        yield real("float64")
        yield real("float32")


def errors(case: Case) -> dict[str, str]:
    """Error of each tool relative to the sum of the traces."""
    terms = fidfast.frechet_terms(*case.stats)
    error = abs(terms.distance - case.exact)
    assert error <= terms.rounding, f"{case.name}: the error is {error}, at most {terms.rounding} is allowed"
    shown = {"fidfast": f"{error / case.scale:.1e}", "its bound": f"{terms.rounding / case.scale:.1e}"}
    arrays = [array for stats in case.stats for array in (np.array(stats.mu), np.array(stats.sigma))]
    for tool, distance in peers.DISTANCES.items():
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                value = distance(*arrays)
            shown[tool] = f"{abs(value - case.exact) / case.scale:.1e}" + (" negative" if value < 0 else "")
        except ValueError as failure:
            shown[tool] = str(failure).split()[0] + " error"
    return shown


def main() -> None:
    """See the docstring of the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy")
    parser.add_argument("--quick", action="store_true", help="only small cases; writes no file")
    quick = parser.parse_args().quick
    rows = []
    for case in cases(quick):
        rows.append({"case": case.name, **errors(case)})
        if len(rows) == 1:
            print("error of the distance, relative to the sum of the traces")
            print(f"{'':38}" + "".join(f"{key:>18}" for key in list(rows[0])[1:]))
        print(f"{case.name:38}" + "".join(f"{value:>18}" for value in list(rows[-1].values())[1:]), flush=True)
    if quick:
        print()
        uncertainty.run(uncertainty.cells(quick=True), save=False)
    else:
        path = machine.RESULTS / f"accuracy-{machine.name()}.json"
        path.write_text(json.dumps({"machine": machine.description(), "errors": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
