"""Simulation of `estimate`: coverage of its interval, standard error and bias.

The distance of each pair of distributions is known exactly: Gaussians; rectified Gaussians, whose moments have closed
forms; and real features, drawn with replacement from a finite population. Many samples are drawn from each, and the
results of `estimate` and `fid_infinity` are compared with the exact distance.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import fidfast
from benchmarks import machine
from fidfast import GaussianStats

#: Real Inception features; cases that need them are skipped if the folder does not exist.
REAL = Path(__file__).parents[3] / "shared" / "features"

Array = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], Array]


class Pair(NamedTuple):
    """Two distributions and how to draw from them."""

    name: str
    samples: Sampler
    reference: Sampler
    stats: tuple[GaussianStats, GaussianStats]
    #: Their distance.
    exact: float

    @classmethod
    def from_stats(cls, name: str, samplers: Sequence[Sampler], stats: Sequence[GaussianStats]) -> Pair:
        return cls(name, *samplers, (stats[0], stats[1]), fidfast.frechet_distance(*stats))


class Cell(NamedTuple):
    """One line of the table: ``rows_per_dim * dim + 1`` rows; the reference is a sample of the same size, or exact."""

    distribution: str
    dim: int
    rows_per_dim: float
    reference: str
    draws: int
    extrapolated: bool


class Draw(NamedTuple):
    """Results of one sample."""

    value: float
    unbiased: float
    stderr: float
    covers: bool
    extrapolated: float


def mixing(dim: int, rng: np.random.Generator) -> Array:
    """A mixing matrix with correlations and a decaying spectrum, as of the features of a network."""
    return rng.standard_normal((dim, dim)) * (np.logspace(0, -1.5, dim)[:, None] / np.sqrt(dim))


def gaussian(dim: int, equal: bool = False) -> Pair:
    rng = np.random.default_rng(dim)
    mixings = [mixing(dim, rng) for _ in range(2)]
    mus = [np.zeros(dim), np.full(dim, 0.05)]
    if equal:
        mixings[0], mus[0] = mixings[1], mus[1]

    def sampler(k: int) -> Sampler:
        return lambda rng, n: rng.standard_normal((n, dim)) @ mixings[k] + mus[k]

    stats = [GaussianStats(mu, mix.T @ mix) for mu, mix in zip(mus, mixings, strict=True)]
    return Pair.from_stats("Gaussian", [sampler(0), sampler(1)], stats)


def rectified(dim: int, equal: bool = False) -> Pair:
    """Moments of max(x, 0) of centred Gaussians: Cho & Saul, "Kernel methods for deep learning" (2009), section 2."""
    rng = np.random.default_rng(dim)
    mixings = [mixing(dim, rng) for _ in range(2)]
    if equal:
        mixings[0] = mixings[1]

    def sampler(k: int) -> Sampler:
        return lambda rng, n: np.maximum(rng.standard_normal((n, dim)) @ mixings[k], 0)

    def stats(mix: Array) -> GaussianStats:
        sigma = mix.T @ mix
        deviation = np.sqrt(np.diag(sigma))
        cosine = np.clip(sigma / np.outer(deviation, deviation), -1, 1)
        angle = np.arccos(cosine)
        second = np.outer(deviation, deviation) * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
        mu = deviation / np.sqrt(2 * np.pi)
        return GaussianStats(mu, second - np.outer(mu, mu))

    return Pair.from_stats("rectified", [sampler(0), sampler(1)], [stats(mix) for mix in mixings])


def real(dim: int, equal: bool = False) -> Pair:
    """Some of the units that vary, or all 2,048."""
    sets = [np.load(REAL / f"emoji_{style}.npy").astype(np.float64) for style in ("google", "twitter")]
    if equal:
        sets[0] = sets[1]
    if dim < sets[0].shape[1]:
        alive = np.flatnonzero((sets[0].std(0) > 0) & (sets[1].std(0) > 0))
        units = np.random.default_rng(dim).permutation(alive)[:dim]
        sets = [rows[:, units] for rows in sets]

    def sampler(rows: Array) -> Sampler:
        # Draws are independent, but equal rows would be taken for images that are in both samples.
        return lambda rng, n: rows[rng.integers(0, len(rows), n)] * (1 + 1e-9 * rng.standard_normal((n, 1)))

    stats = [GaussianStats(rows.mean(0), np.cov(rows, rowvar=False, ddof=0)) for rows in sets]
    return Pair.from_stats("real", [sampler(rows) for rows in sets], stats)


DISTRIBUTIONS: dict[str, Callable[..., Pair]] = {"Gaussian": gaussian, "rectified": rectified, "real": real}


def cells(quick: bool) -> Iterator[Cell]:
    """All lines of the table, in order."""
    names = [name for name in DISTRIBUTIONS if name != "real" or REAL.exists()]
    for dim, draws in ((16, 100),) if quick else ((64, 500), (256, 200), (512, 100), (2048, 40)):
        for name in names:
            for rows_per_dim in (2, 5, 10) if dim < 2048 else (2, 5):
                for reference in ("exact", "sampled") if dim <= 256 else ("exact",):
                    yield Cell(name, dim, rows_per_dim, reference, draws, dim < 2048)
        if dim <= 256:
            for name in names:
                yield Cell(f"{name}, equal", dim, 5, "sampled", draws, True)


def pair_of(cell: Cell) -> Pair:
    name, _, equal = cell.distribution.partition(", ")
    return DISTRIBUTIONS[name](cell.dim, bool(equal))


def draw(pair: Pair, cell: Cell, seed: int) -> Draw:
    """Draw one sample and compute its results."""
    rng = np.random.default_rng([cell.dim, seed])
    n = round(cell.rows_per_dim * cell.dim) + 1
    samples = pair.samples(rng, n)
    reference = pair.stats[1] if cell.reference == "exact" else pair.reference(rng, n)
    found = fidfast.estimate(samples, reference)
    low, high = found.interval()
    extrapolated = np.nan
    if cell.extrapolated:
        extrapolated = fidfast.fid_infinity(samples, reference, seed=seed).value
    return Draw(found.value, found.unbiased, found.stderr, low <= pair.exact <= high, extrapolated)


def summary(cell: Cell, exact: float, draws: Iterable[Draw]) -> dict[str, Any]:
    """One line of the table."""
    value, unbiased, stderr, covers, extrapolated = (np.array(column) for column in zip(*draws, strict=True))
    bias, std = value.mean() - exact, unbiased.std(ddof=1)
    line: dict[str, Any] = {
        **cell._asdict(),
        "distance": exact,
        "bias": bias,
        "coverage": covers.mean(),
        "stderr / std": np.sqrt(np.mean(stderr**2)) / std,
        "bias removed": 1 - (unbiased.mean() - exact) / bias,
        "remaining bias / std": (unbiased.mean() - exact) / std,
    }
    if cell.extrapolated:
        line |= {
            "extrapolation: bias removed": 1 - (extrapolated.mean() - exact) / bias,
            "extrapolation: remaining bias / its std": (extrapolated.mean() - exact) / extrapolated.std(ddof=1),
            "extrapolation: its std / std": extrapolated.std(ddof=1) / std,
        }
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in line.items()}


HEAD = (
    f"{'':18}{'dim':>5}{'n/dim':>6}  {'reference':10}{'draws':>6}{'coverage':>10}{'stderr':>8}{'removed':>9}{'bias':>8}"
    f"   {'extrapolation: removed':>22}{'bias':>8}{'std':>8}"
)


def text(line: dict[str, Any]) -> str:
    """A line of the printed table, below `HEAD`."""
    shown = (
        f"{line['distribution']:18}{line['dim']:5}{line['rows_per_dim']:6g}  {line['reference']:10}{line['draws']:6}"
        f"{line['coverage']:10.3f}{line['stderr / std']:8.3f}{line['bias removed']:9.3f}"
        f"{line['remaining bias / std']:8.2f}"
    )
    if line["extrapolated"]:
        removed, bias, std = (line[key] for key in line if key.startswith("extrapolation: "))
        shown += f"   {removed:22.3f}{bias:8.2f}{std:8.2f}"
    return shown


def path() -> Path:
    """File of the table of this machine."""
    return machine.RESULTS / f"uncertainty-{machine.name()}.json"


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("dim", "distribution", "rows_per_dim", "reference"))


def write(lines: list[dict[str, Any]]) -> None:
    """Write lines to the table; they replace the same lines of an earlier run."""
    kept = json.loads(path().read_text())["lines"] if path().exists() else []
    table = {key_of(line): line for line in (*kept, *lines)}
    ordered = [table[key] for key in (key_of(cell._asdict()) for cell in cells(False)) if key in table]
    path().write_text(json.dumps({"machine": machine.description(), "lines": ordered}, indent=1) + "\n")


def run(chosen: Iterable[Cell], save: bool) -> None:
    """Compute and print these lines of the table, and save them on request."""
    print("95 % interval of `estimate`: coverage; stderr / standard deviation (std) of `unbiased`; share of the bias")
    print("removed; remaining bias / std. Extrapolation: share removed; remaining bias / its std; its std / std")
    print(HEAD)
    for cell in chosen:
        pair = pair_of(cell)
        with warnings.catch_warnings(), threadpool_limits(1 if cell.dim < 1024 else None, user_api="blas"):
            warnings.simplefilter("error")
            line = summary(cell, pair.exact, [draw(pair, cell, seed) for seed in range(cell.draws)])
        print(text(line), flush=True)
        if save:
            write([line])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.uncertainty")
    parser.add_argument("--quick", action="store_true", help="only dim 16; writes no file")
    parser.add_argument("--dim", type=int, nargs="*", help="only these dims")
    parser.add_argument("--distribution", nargs="*", help="only these distributions")
    options = parser.parse_args()
    run(
        (
            cell
            for cell in cells(options.quick)
            if (not options.dim or cell.dim in options.dim)
            and (not options.distribution or cell.distribution in options.distribution)
        ),
        save=not options.quick,
    )
