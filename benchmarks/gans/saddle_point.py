"""Saddle point of two time scales.

Heusel et al. 2017 show on ``min_x max_y f(x, y) = (1 + x^2) (100 - y^2)`` [read] that noisy gradient steps converge to
the saddle (0, 0) if the two learning rates suit it. From x = 0.5, y = -0.4, with independent N(0, 1) noise m, n::

    x <- x - a (2 x (100 - y^2) + m)
    y <- y + b (-2 y (1 + x^2) + n)           with the new x

Near the saddle each coordinate is multiplied by a factor per step [derived]::

    m_x = 1 - 2 a (100 - y^2),    m_y = 1 - 2 b (1 + x^2)

and a coordinate with the constant factor m, |m| < 1, has the stationary standard deviation
``lr / sqrt(1 - m^2)`` [derived].

====== ====== ====== ================================================= =============== ======
regime a      b      the paper says [read]                             m_x             m_y
====== ====== ====== ================================================= =============== ======
1      0.01   0.01   large fluctuations, does not converge             -1 + 0.02 y^2   0.98
2      0.001  0.001  converges                                         0.8             0.998
3      0.0001 0.01   converges faster, straight to the saddle          0.98            0.98
4      0.01   0.0001 converges, but more slowly                        -1 + 0.02 y^2   0.9998
====== ====== ====== ================================================= =============== ======

In regimes 1 and 4 x has no stationary distribution: |m_x| tends to 1 as y tends to 0, so that ``(-1)^n x`` is a random
walk with steps of standard deviation a and a slow contraction 0.02 y^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.gans.experiment import HEUSEL, Figure, Sentence
from benchmarks.gans.work import Part, Work

CLAIM = "A slow x and a fast y reach a saddle point fast; with two large rates x does not settle."
PAPER = HEUSEL

START = (0.5, -0.4)

#: Regime to its learning rates a (of x) and b (of y), and what the paper says of it.
REGIMES = {
    "1": (0.01, 0.01, "large fluctuations, does not converge"),
    "2": (0.001, 0.001, "converges"),
    "3": (0.0001, 0.01, "converges faster, straight to the saddle"),
    "4": (0.01, 0.0001, "converges, but more slowly"),
}

#: Steps that are simulated at a time.
BLOCK = 1_000

#: Allowed difference of a measured standard deviation from its closed form, in standard errors; 6e-5 of normal errors
#: exceed it.
STANDARD_ERRORS = 4.0


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    seeds: int
    #: Steps of the paper's picture.
    steps: int = 5_000
    #: The last steps, whose standard deviations are compared with the closed form: from step 3,000, the start adds less
    #: than 0.1 % to the variance of y in regime 2, whose factor 0.998 is the closest to 1.
    stationary: int = 2_000
    #: Steps of regime 4, which has not converged after the paper's.
    long: int = 50_000
    #: Norm that a run has to reach.
    target: float = 0.06


QUICK = Settings(seeds=40, long=20_000)
FULL = Settings(seeds=400)


@dataclass(frozen=True)
class Result:
    """Result of the experiment."""

    settings: dict[str, Any]
    #: Regime to what `simulate` returns.
    regimes: dict[str, Any]


def objective(x: Any, y: Any) -> Any:
    """f(x, y), elementwise."""
    return (1 + x**2) * (100 - y**2)


def step(x: Any, y: Any, a: float, b: float, m: Any, n: Any) -> tuple[Any, Any]:
    """One sequential step with the noise m and n: y sees the new x. Numbers, or arrays of shape (seeds,)."""
    x = x - a * (2 * x * (100 - y**2) + m)
    y = y + b * (-2 * y * (1 + x**2) + n)
    return x, y


def blocks(a: float, b: float, *, seeds: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Paths of all seeds in blocks of (`BLOCK` steps, seeds); all regimes of a seed have the same noise."""
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    x, y = (np.full(seeds, value) for value in START)
    for _ in range(0, steps, BLOCK):
        noise = np.stack([generator.standard_normal((BLOCK, 2)) for generator in generators], axis=-1)
        path = np.empty((BLOCK, 2, seeds))
        for n in range(BLOCK):
            x, y = step(x, y, a, b, *noise[n])
            path[n] = x, y
        yield path[:, 0], path[:, 1]


def stationary_deviation(lr: float, factor: float) -> float:
    """Standard deviation of ``x <- factor x + lr N(0, 1)`` in equilibrium."""
    return lr / math.sqrt(1 - factor**2)


def factors(a: float, b: float) -> tuple[float, float]:
    """m_x and m_y at the saddle."""
    return 1 - 200 * a, 1 - 2 * b


def simulate(
    part: Part, *, a: float, b: float, seeds: int, steps: int, stationary: int, long: int, target: float
) -> dict[str, Any]:
    """Statistics of one regime over the seeds. With `long` > `steps`, the run continues for the growth of x."""
    simulation = blocks(a, b, seeds=seeds, steps=max(steps, long))
    start = [np.full((1, seeds), value) for value in START]
    x, y = (
        np.concatenate(paths) for paths in zip(start, *(next(simulation) for _ in range(steps // BLOCK)), strict=True)
    )
    norm = np.hypot(x, y)
    # The first step below the target, infinite if there is none.
    hits = np.where((norm < target).any(axis=0), (norm < target).argmax(axis=0), np.inf)
    shown = np.unique(np.concatenate([np.arange(0, 10), np.geomspace(10, steps, 70).astype(int)]))
    # The paths: each of the first steps, then pairs of successive steps, which show an alternating sign.
    drawn = [n for n in range(steps + 1) if n < 150 or n % 50 in (0, 1)]
    mean = np.stack([x.mean(axis=1), y.mean(axis=1)])
    rms = {str(n): _rms(x[n]) for n in range(BLOCK, steps + 1, BLOCK)}
    for index, (later, _) in enumerate(simulation, steps // BLOCK + 1):
        if index % 5 == 0:
            rms[str(index * BLOCK)] = _rms(later[-1])
    return {
        "final_norm": _quantiles(norm[-1]),
        "hits": _quantiles(hits),
        "reached": float(np.isfinite(hits).mean()),
        "late_abs_x": float(np.abs(x[-1_000:]).mean()),
        "deviation": [_rms(x[-stationary:]), _rms(y[-stationary:])],
        "rms_x": rms,
        "off_line": off_line(*mean),
        "curve_steps": shown.tolist(),
        "norm": [_quantiles(norm[n]) for n in shown],
        "objective": [_quantiles(objective(x[n], y[n])) for n in shown],
        # Of seed 0, and the mean over the seeds.
        "path": np.stack([x[drawn, 0], y[drawn, 0]]).round(5).tolist(),
        "mean_path": mean[:, drawn].round(5).tolist(),
    }


def off_line(x: np.ndarray, y: np.ndarray) -> float:
    """Largest distance of a path from the line between start and saddle, in units of the start's norm."""
    return float(np.abs(x * START[1] - y * START[0]).max() / (START[0] ** 2 + START[1] ** 2))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _quantiles(values: np.ndarray) -> list[float | None]:
    """10, 50 and 90 %: values of seeds, not interpolated. None is infinite."""
    found = np.quantile(values, (0.1, 0.5, 0.9), method="inverted_cdf")
    return [float(value) if np.isfinite(value) else None for value in found]


def run(settings: Settings, work: Work) -> Result:
    """Simulate the four regimes."""
    common = {key: value for key, value in asdict(settings).items() if key != "long"}
    parts = {
        f"regime {name}": {"a": a, "b": b, "long": settings.long if name == "4" else 0, **common}
        for name, (a, b, _) in REGIMES.items()
    }
    found = work.map(simulate, parts, label="regimes")
    return Result(asdict(settings), {name: found[f"regime {name}"] for name in REGIMES})


def deviations(result: Result) -> list[dict[str, Any]]:
    """Measured and closed-form standard deviations of regimes 2 and 3, with the standard error of the measured ones.

    A stationary process of factor m has squares with the autocorrelation m^(2 k), so that T steps of S seeds count as
    ``S T (1 - m^2) / (1 + m^2)`` independent ones. The standard deviation of n of these has the relative error
    1/sqrt(2 n).
    """
    rows = []
    for name in ("2", "3"):
        rates = REGIMES[name][:2]
        for symbol, lr, m, measured in zip(
            "xy", rates, factors(*rates), result.regimes[name]["deviation"], strict=True
        ):
            closed = stationary_deviation(lr, m)
            count = result.settings["seeds"] * result.settings["stationary"] * (1 - m**2) / (1 + m**2)
            error = closed / math.sqrt(2 * count)
            rows.append({"regime": name, "of": symbol, "measured": measured, "closed": closed, "error": error})
    return rows


def walk_bounds(result: Result) -> tuple[float, float]:
    """Smallest and largest root mean square of x in regime 1 after all steps, as `claim` states them.

    The largest is that of the walk without contraction, from the start 0.5: ``0.5^2 + a^2 n``. The contraction
    ``c = 0.02 y^2`` has y^2 of at most its start for the first steps, exp(-0.02 * 0.4^2 / (1 - 0.98^2)), and of at most
    the stationary b^2 / (1 - 0.98^2) afterwards, and ``V' = -2 c V + a^2`` is solved. Both are widened by sampling.
    """
    (a, b, _), n = REGIMES["1"], result.settings["steps"]
    m = factors(a, b)[1]
    c = 2 * a * stationary_deviation(b, m) ** 2
    left = START[0] ** 2 * math.exp(-2 * (2 * a * START[1] ** 2 / (1 - m**2) + c * n))
    smallest = left + a**2 * (1 - math.exp(-2 * c * n)) / (2 * c)
    largest = START[0] ** 2 + a**2 * n
    widening = STANDARD_ERRORS / math.sqrt(2 * result.settings["seeds"])
    return math.sqrt(smallest) * (1 - widening), math.sqrt(largest) * (1 + widening)


def claim(result: Result) -> list[Sentence]:
    """What the paper claims of the four regimes, and what follows from the factors."""
    one, two, three, four = (result.regimes[name] for name in "1234")
    steps, target = str(result.settings["steps"]), result.settings["target"]
    free2, free3 = (_steps_without_noise(name, target) for name in "23")
    ratio = three["hits"][1] / two["hits"][1]
    fluctuation = one["late_abs_x"] / two["late_abs_x"]
    worst = max(deviations(result), key=lambda row: abs(row["measured"] - row["closed"]) / row["error"])
    low, high = walk_bounds(result)
    late = max(four["rms_x"], key=int)
    return [
        Sentence(
            f"Two time scales (regime 3) reach a norm below {target:g} in less than a third of the steps of one small "
            f"rate (regime 2): medians {three['hits'][1]:,.0f} and {two['hits'][1]:,.0f}, ratio {ratio:.2f}.",
            ratio < 1 / 3,
            f"derived: without noise the steps are {free3} and {free2}; the slowest tenth of regime 3 "
            f"({_shown(three['hits'][2])}) against the fastest tenth of regime 2 ({_shown(two['hits'][0])}) is below a "
            "third too",
        ),
        Sentence(
            f"Regime 3 goes straight to the saddle: its mean path leaves the line from the start by "
            f"{100 * three['off_line']:.0f} % of the distance, that of regime 2 by {100 * two['off_line']:.0f} %.",
            three["off_line"] < 0.1 < 0.4 < two["off_line"],
            "derived: the factors of regime 3 are equal near the saddle; x reaches 0 first in regime 2, which is 49 % "
            "off the line",
        ),
        Sentence(
            f"Regimes 1 and 4 are slower: their medians, {_shown(one['hits'][1])} and {_shown(four['hits'][1])}, are "
            f"later than 90 % of the seeds of regime 2 ({_shown(two['hits'][2])}).",
            _infinite(one["hits"][1]) > two["hits"][2] and _infinite(four["hits"][1]) > two["hits"][2],
            "the 10-90 % band over seeds",
        ),
        Sentence(
            f"A large rate of both (regime 1) leaves large fluctuations: mean |x| of the last 1,000 steps is "
            f"{one['late_abs_x']:.2f}, {fluctuation:.0f} times that of regime 2 ({two['late_abs_x']:.4f}).",
            fluctuation > 50,
            "derived: a walk of 5,000 steps of 0.01 has the standard deviation 0.7, regime 2 has 0.0017",
        ),
        Sentence(
            f"In regime 1 x walks but does not blow up: its root mean square after {int(steps):,} steps is "
            f"{one['rms_x'][steps]:.2f}, between {low:.2f} and {high:.2f}.",
            low <= one["rms_x"][steps] <= high,
            f"derived: the random walk with and without its contraction, and {STANDARD_ERRORS:g} standard errors",
        ),
        Sentence(
            f"Regimes 2 and 3 fluctuate with the standard deviation lr / sqrt(1 - m^2): the farthest is {worst['of']} "
            f"of regime {worst['regime']}, {worst['measured']:.3g} against {worst['closed']:.3g}, off by "
            f"{abs(worst['measured'] - worst['closed']) / worst['error']:.1f} standard errors.",
            abs(worst["measured"] - worst["closed"]) <= STANDARD_ERRORS * worst["error"],
            f"derived: {STANDARD_ERRORS:g} standard errors of the effective number of samples",
        ),
        Sentence(
            f"Regime 4 converges, but more slowly: its norm falls from {math.hypot(*START):.2f} to a median of "
            f"{four['final_norm'][1]:.2f} in {int(steps):,} steps, and the root mean square of x is "
            f"{four['rms_x'][steps]:.2f} then and {four['rms_x'][late]:.2f} after {int(late):,} steps.",
            four["final_norm"][1] < math.hypot(*START) and four["rms_x"][late] < four["rms_x"][steps],
            "convergence means that the root mean square of x does not grow; the factor of x has modulus 1 at y = 0",
        ),
    ]


def _steps_without_noise(name: str, target: float) -> int:
    (a, b, _), (x, y), n = REGIMES[name], START, 0
    while math.hypot(x, y) >= target:
        x, y = step(x, y, a, b, 0.0, 0.0)
        n += 1
    return n


def _infinite(steps: float | None) -> float:
    return math.inf if steps is None else steps


def _shown(steps: float | None) -> str:
    return "never" if steps is None else f"{steps:,.0f}"


def figures(result: Result) -> list[Figure]:
    """The paper's words beside quantiles over seeds, and closed-form standard deviations beside measured ones."""
    rows = [
        Figure(
            f"Regime {name} (a = {a:g}, b = {b:g}): final norm; steps until norm < {result.settings['target']:g} "
            "(10 / 50 / 90 % of seeds)",
            words,
            " / ".join(f"{value:.3f}" for value in result.regimes[name]["final_norm"])
            + "; "
            + " / ".join(map(_shown, result.regimes[name]["hits"])),
            "read",
        )
        for name, (a, b, words) in REGIMES.items()
    ]
    return rows + [
        Figure(
            f"Stationary standard deviation of {row['of']}, regime {row['regime']}",
            f"{row['closed']:.3g}",
            f"{row['measured']:.3g} ± {row['error']:.1g}",
            "derived",
        )
        for row in deviations(result)
    ]


def summary(result: Result) -> str:
    """The claim, what was done, what came out."""
    one, two, three, four = (result.regimes[name] for name in "1234")
    steps, late = str(result.settings["steps"]), max(four["rms_x"], key=int)
    return (
        "The paper minimises over x and maximises over y the function (1 + x²)(100 - y²) with noisy gradients, and "
        "says that a slow x and a fast y find the saddle fastest, while two large rates do not converge. Here "
        f"{result.settings['seeds']} seeds of each regime ran {int(steps):,} steps. Two time scales (regime 3) got "
        f"within {result.settings['target']:g} of the saddle after {_shown(three['hits'][1])} steps (median), one "
        f"small rate (regime 2) after {_shown(two['hits'][1])}. With two large rates (regime 1) "
        f"{100 * one['reached']:.0f} % of the seeds got there, by chance, without staying there: the median of all "
        f"final norms is {one['final_norm'][1]:.2f}. Of regime 4 (fast x, slow y) {100 * four['reached']:.0f} % did. "
        "The fluctuations of regimes 2 and 3 have the standard deviation that the linear recursion predicts: their "
        "final norms are noise floors and do not say which converges better. In regimes 1 and 4 x changes its sign "
        "in each step and has no noise floor, since its contraction vanishes with y. The paper says that regime 4 "
        f"converges, but the root mean square of x grew from {four['rms_x'][steps]:.2f} after {int(steps):,} steps to "
        f"{four['rms_x'][late]:.2f} after {int(late):,}."
    )


def plot(result: Result) -> Any:
    """Objective, norm and path in the plane, a column for each regime."""
    import matplotlib.pyplot as plt

    colours = dict(zip(REGIMES, ("#d55e00", "#0072b2", "#009e73", "#aa4499"), strict=True))
    figure, axes = plt.subplots(3, 4, figsize=(11, 8), sharey="row", layout="constrained")
    for column, (name, (a, b, _)) in enumerate(REGIMES.items()):
        regime, colour, steps = (
            result.regimes[name],
            colours[name],
            [n + 1 for n in result.regimes[name]["curve_steps"]],
        )
        top, middle, bottom = axes[:, column]
        top.set_title(f"Regime {name}\na = {a:g}, b = {b:g}", fontsize=11)
        for axis, quantity in ((top, "objective"), (middle, "norm")):
            low, median, high = zip(*regime[quantity], strict=True)
            axis.fill_between(steps, low, high, color=colour, alpha=0.3, lw=0, label="10-90 % of seeds")
            axis.plot(steps, median, color=colour, label="median")
            axis.set_xscale("log")
        top.axhline(100, color="0.4", lw=0.8, ls=":", label="saddle")
        middle.axhline(result.settings["target"], color="0.4", lw=0.8, ls="--", label="target")
        middle.set(yscale="log", xlabel="step + 1")
        bottom.plot(*regime["path"], color=colour, lw=0.6, marker=".", ms=2.5, label="path, seed 0")
        # Every second state, since x alternates in regimes 1 and 4.
        bottom.plot(*np.array(regime["mean_path"])[:, ::2], color="black", lw=0.9, label="mean path")
        bottom.plot(*START, "s", color="black", ms=5, label="start")
        bottom.plot(0, 0, "*", color="black", ms=9, label="saddle")
        bottom.set(xlabel="x (mean path: even steps)", xlim=(-1.5, 1.5), ylim=(-0.45, 0.2))
    axes[0, 0].set_ylabel("objective f(x, y)")
    axes[1, 0].set_ylabel("norm of (x, y)")
    axes[2, 0].set_ylabel("y")
    for axis, corner in ((axes[0, 1], "upper right"), (axes[1, 0], "lower left"), (axes[2, 2], "upper right")):
        axis.legend(fontsize=8, frameon=False, loc=corner)
    return figure
