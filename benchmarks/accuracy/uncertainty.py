"""Monte Carlo of `estimate`: how often its interval holds, beside the spread and the bias that it is to tell.

Every law has a distance that is known exactly: Gaussians; Gaussians rectified as a network's last layer does it, whose
moments have closed forms; and real features, drawn with replacement from a finite population. Many samples are drawn
from each, and what `estimate` and the extrapolation of `fid_infinity` say is held against the truth.
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

#: Real Inception features, where they lie beside the checkout.
REAL = Path(__file__).parents[3] / "shared" / "features"

Array = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], Array]


class Law(NamedTuple):
    """Two distributions and how to draw from them."""

    name: str
    features: Sampler
    reference: Sampler
    stats: tuple[GaussianStats, GaussianStats]
    #: The distance.
    exact: float

    @classmethod
    def of(cls, name: str, samplers: Sequence[Sampler], stats: Sequence[GaussianStats]) -> Law:
        return cls(name, *samplers, (stats[0], stats[1]), fidfast.frechet_distance(*stats))


class Cell(NamedTuple):
    """One line of the table: this many rows, less one, for each dimension; the reference a like sample, or known."""

    law: str
    dim: int
    rows_per_dim: float
    reference: str
    draws: int
    extrapolated: bool


class Draw(NamedTuple):
    """What was found in one sample."""

    value: float
    unbiased: float
    stderr: float
    covers: bool
    extrapolated: float


def mixing(dim: int, rng: np.random.Generator) -> Array:
    """Correlations and a decaying spectrum, as networks give them."""
    return rng.standard_normal((dim, dim)) * (np.logspace(0, -1.5, dim)[:, None] / np.sqrt(dim))


def gaussian(dim: int, equal: bool = False) -> Law:
    rng = np.random.default_rng(dim)
    mixings = [mixing(dim, rng) for _ in range(2)]
    mus = [np.zeros(dim), np.full(dim, 0.05)]
    if equal:
        mixings[0], mus[0] = mixings[1], mus[1]

    def sampler(k: int) -> Sampler:
        return lambda rng, n: rng.standard_normal((n, dim)) @ mixings[k] + mus[k]

    stats = [GaussianStats(mu, mix.T @ mix) for mu, mix in zip(mus, mixings, strict=True)]
    return Law.of("Gaussian", [sampler(0), sampler(1)], stats)


def rectified(dim: int, equal: bool = False) -> Law:
    """Moments of max(x, 0) for Gaussian x about 0: Cho & Saul, "Kernel methods for deep learning" (2009), section 2."""
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

    return Law.of("rectified", [sampler(0), sampler(1)], [stats(mix) for mix in mixings])


def real(dim: int, equal: bool = False) -> Law:
    """Of some units that vary, or of all 2,048."""
    sets = [np.load(REAL / f"emoji_{style}.npy").astype(np.float64) for style in ("google", "twitter")]
    if equal:
        sets[0] = sets[1]
    if dim < sets[0].shape[1]:
        alive = np.flatnonzero((sets[0].std(0) > 0) & (sets[1].std(0) > 0))
        units = np.random.default_rng(dim).permutation(alive)[:dim]
        sets = [rows[:, units] for rows in sets]

    def sampler(rows: Array) -> Sampler:
        return lambda rng, n: rows[rng.integers(0, len(rows), n)]

    stats = [GaussianStats(rows.mean(0), np.cov(rows, rowvar=False, ddof=0)) for rows in sets]
    return Law.of("real", [sampler(rows) for rows in sets], stats)


LAWS: dict[str, Callable[..., Law]] = {"Gaussian": gaussian, "rectified": rectified, "real": real}


def cells(quick: bool) -> Iterator[Cell]:
    """All lines of the table, in its order."""
    laws = [name for name in LAWS if name != "real" or REAL.exists()]
    for dim, draws in ((16, 100),) if quick else ((64, 500), (256, 200), (512, 100), (2048, 40)):
        for law in laws:
            for rows_per_dim in (2, 5, 10) if dim < 2048 else (2, 5):
                for reference in ("known", "sampled") if dim <= 256 else ("known",):
                    yield Cell(law, dim, rows_per_dim, reference, draws, dim < 2048)
        if dim <= 256:
            for law in laws:
                yield Cell(f"{law}, equal", dim, 5, "sampled", draws, True)


def law_of(cell: Cell) -> Law:
    name, _, equal = cell.law.partition(", ")
    return LAWS[name](cell.dim, bool(equal))


def draw(law: Law, cell: Cell, seed: int) -> Draw:
    """One sample, and all that is said of it."""
    rng = np.random.default_rng([cell.dim, seed])
    n = round(cell.rows_per_dim * cell.dim) + 1
    features = law.features(rng, n)
    reference = law.stats[1] if cell.reference == "known" else law.reference(rng, n)
    found = fidfast.estimate(features, reference)
    low, high = found.interval()
    extrapolated = np.nan
    if cell.extrapolated:
        extrapolated = fidfast.fid_infinity(features, reference, seed=seed).value
    return Draw(found.value, found.unbiased, found.stderr, low <= law.exact <= high, extrapolated)


def summary(cell: Cell, exact: float, draws: Iterable[Draw]) -> dict[str, Any]:
    """One line of the table."""
    value, unbiased, stderr, covers, extrapolated = (np.array(column) for column in zip(*draws, strict=True))
    bias, spread = value.mean() - exact, unbiased.std(ddof=1)
    line: dict[str, Any] = {
        **cell._asdict(),
        "distance": exact,
        "bias": bias,
        "coverage": covers.mean(),
        "stderr / spread": np.sqrt(np.mean(stderr**2)) / spread,
        "bias removed": 1 - (unbiased.mean() - exact) / bias,
        "rest / spread": (unbiased.mean() - exact) / spread,
    }
    if cell.extrapolated:
        line |= {
            "extrapolation: bias removed": 1 - (extrapolated.mean() - exact) / bias,
            "extrapolation: rest / its spread": (extrapolated.mean() - exact) / extrapolated.std(ddof=1),
            "extrapolation: its spread / spread": extrapolated.std(ddof=1) / spread,
        }
    return {key: float(f"{known:.4g}") if isinstance(known, float) else known for key, known in line.items()}


HEAD = (
    f"{'':18}{'dim':>5}{'n/dim':>6}  {'reference':10}{'draws':>6}{'coverage':>10}{'stderr':>8}{'removed':>9}{'rest':>8}"
    f"   {'extrapolation: removed':>22}{'rest':>8}{'spread':>8}"
)


def text(line: dict[str, Any]) -> str:
    """A line of the table as it is printed, under `HEAD`."""
    shown = (
        f"{line['law']:18}{line['dim']:5}{line['rows_per_dim']:6g}  {line['reference']:10}{line['draws']:6}"
        f"{line['coverage']:10.3f}{line['stderr / spread']:8.3f}{line['bias removed']:9.3f}"
        f"{line['rest / spread']:8.2f}"
    )
    if line["extrapolated"]:
        removed, rest, spread = (line[key] for key in line if key.startswith("extrapolation: "))
        shown += f"   {removed:22.3f}{rest:8.2f}{spread:8.2f}"
    return shown


def path() -> Path:
    """Where the table of this machine is kept."""
    return machine.RESULTS / f"uncertainty-{machine.name()}.json"


def place(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("dim", "law", "rows_per_dim", "reference"))


def write(lines: list[dict[str, Any]]) -> None:
    """Into the table, in place of the same lines of an earlier run."""
    kept = json.loads(path().read_text())["lines"] if path().exists() else []
    table = {place(line): line for line in (*kept, *lines)}
    ordered = [table[key] for key in (place(cell._asdict()) for cell in cells(False)) if key in table]
    path().write_text(json.dumps({"machine": machine.description(), "lines": ordered}, indent=1) + "\n")


def run(chosen: Iterable[Cell], keep: bool) -> None:
    """Print these lines of the table, and write them if they are to be kept."""
    print("the 95 % interval of `estimate`: how often it holds; its stderr over the spread of `unbiased`; the share of")
    print("the bias that it removes; what is left, in spreads; the same of fid_infinity, in its spreads; over ours")
    print(HEAD)
    for cell in chosen:
        law = law_of(cell)
        with warnings.catch_warnings(), threadpool_limits(1 if cell.dim < 1024 else None, user_api="blas"):
            warnings.simplefilter("error")
            line = summary(cell, law.exact, [draw(law, cell, seed) for seed in range(cell.draws)])
        print(text(line), flush=True)
        if keep:
            write([line])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.uncertainty")
    parser.add_argument("--quick", action="store_true", help="dim 16 only; write nothing")
    parser.add_argument("--dim", type=int, nargs="*", help="these dims only")
    parser.add_argument("--law", nargs="*", help="these laws only")
    options = parser.parse_args()
    run(
        (
            cell
            for cell in cells(options.quick)
            if (not options.dim or cell.dim in options.dim) and (not options.law or cell.law in options.law)
        ),
        keep=not options.quick,
    )
