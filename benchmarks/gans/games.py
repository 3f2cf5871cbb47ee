"""Bilinear and smooth games: which methods converge, and how fast.

min over theta, max over omega of ``U = theta^T C omega``. The singular values sigma of C are between
``sigma_max = 1`` and ``1 / condition``; with ``s = eta sigma`` the squared modulus by which a step contracts a mode is

- simultaneous ``1 + s^2``, implicit ``1 / (1 + s^2)``, extragradient ``1 - s^2 + s^4``;
- consensus and predictive ``(1 - eta gamma sigma^2)^2 + s^2``;
- optimistic mirror descent ``(1 + sqrt(1 - 4 s^2)) / 2`` up to s = 1/2, ``(1 + (2 s + sqrt(4 s^2 - 1))^2) / 4`` above;
- alternating 1 up to s = 2.

These are derived; `game_methods` has them for ``K = a I + A`` too. With ``a > 0``, the case with a closed form is
``U = a |theta|^2/2 + theta^T C omega - a |omega|^2/2`` with one sigma: simultaneous steps contract at best by
``sigma^2 / (a^2 + sigma^2)`` (squared), at ``eta = a / (a^2 + sigma^2)``, so their number grows like
``2 sigma^2 / a^2 log(r / eps)``. The bounds of the paper's theorems are remembered, not read.

The contraction is measured on iterated trajectories, without eigenvalues: see `game_measurements`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.gans.experiment import Figure, Sentence
from benchmarks.gans.game_measurements import contraction, limit, slow_down, smooth, steps
from benchmarks.gans.game_methods import METHODS
from benchmarks.gans.work import Work

CLAIM = "The interaction of the players slows stable games down, and lets five modified methods solve bilinear games."
PAPER = "Liang & Stokes 2018, arXiv 1802.06132"


#: Methods whose best step size is searched: the one that is slowed down, and one that the interaction helps.
SEARCHED = ("simultaneous", "extragradient")


@dataclass(frozen=True)
class Settings:
    """Settings of a run. sigma_max is 1, so that eta is in units of 1 / sigma_max, as gamma is."""

    #: Random rotations of C, each with a random start.
    seeds: int
    #: Step sizes of the contraction, on both sides of the limits 1/sqrt(3), 0.8, 1 and 2, and not at these.
    etas: tuple[float, ...]
    gammas: tuple[float, ...]
    #: sigma_max / sigma_min of the contraction, and of the number of steps.
    conditions: tuple[int, ...]
    conditions_steps: tuple[int, ...]
    #: sigma / a of the slow-down.
    ratios: tuple[float, ...]
    #: Maximum of T of the contraction and of the limits.
    max_steps: int
    max_steps_limit: int
    #: A method diverges if its rate is above this; the limits are known to about 4 times it.
    threshold: float
    #: Number of singular values: geometric between the extremes.
    n: int = 3
    #: r / eps of the number of steps.
    accuracy: float = 1e6


@dataclass(frozen=True)
class Result:
    """One record for each method, gamma and condition or ratio; rates are logarithms of moduli."""

    settings: dict[str, Any]
    #: Modulus over `etas`: measured (of the seed with the largest error), exact; largest error over the seeds, and
    #: the largest difference of the exact modulus from the spectral radius of the iteration matrix.
    contraction: list[dict[str, Any]]
    #: Step size where divergence starts at condition 3: measured and exact; None if there is no limit up to 3.9.
    limit: list[dict[str, Any]]
    #: Steps to the accuracy: from the start in the slowest mode, from the random starts (minimum, maximum), from the
    #: exact modulus, and by the theorem (None if there is none).
    steps: list[dict[str, Any]]
    #: Best step size and its squared modulus, both measured, and the steps to the accuracy with it.
    slow_down: list[dict[str, Any]]
    #: Rate near the equilibrium of ``U = a sum log cosh theta + theta^T C omega - a sum log cosh omega``.
    smooth: list[dict[str, Any]]


QUICK = Settings(
    seeds=2,
    etas=(0.3, 0.4, 0.56, 0.6, 0.78, 0.98, 1.02, 1.5, 2.05),
    gammas=(1.0,),
    conditions=(1, 3),
    conditions_steps=(1, 2, 4),
    ratios=(0.0, 1.0, 3.0, 10.0),
    max_steps=8192,
    max_steps_limit=1024,
    threshold=1e-3,
)
FULL = Settings(
    seeds=8,
    etas=(0.2, 0.3, 0.4, 0.47, 0.53, 0.57, 0.585, 0.65, 0.71, 0.78, 0.9, 0.98, 1.02, 1.2, 1.5, 1.8, 1.95, 2.05),
    gammas=(1.0, 0.5, 2.0),
    conditions=(1, 3, 10),
    conditions_steps=(1, 2, 3, 5, 10, 20, 30),
    ratios=(0.0, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0),
    max_steps=65536,
    max_steps_limit=8192,
    threshold=1e-6,
)


def run(settings: Settings, work: Work) -> Result:
    """Measure all methods; each part is one method on one game."""
    gammas = {name: settings.gammas if method.has_gamma else settings.gammas[:1] for name, method in METHODS.items()}
    one, each = settings.gammas[0], asdict(settings)
    pairs = [{"method": name, "gamma": gamma} for name in METHODS for gamma in gammas[name]]
    converging = [name for name, method in METHODS.items() if method.eta]

    def records(function: Any, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        named = {" ".join([function.__name__, *map(str, part.values())]): part for part in parts}
        found = work.map(function, {name: {**part, "settings": each} for name, part in named.items()})
        return [{**named[name], **result} for name, result in found.items()]

    return Result(
        settings=each,
        contraction=records(contraction, [{**pair, "condition": k} for pair in pairs for k in settings.conditions]),
        limit=records(limit, pairs),
        steps=records(
            steps,
            [{"method": name, "gamma": one, "condition": k} for name in converging for k in settings.conditions_steps],
        ),
        slow_down=records(slow_down, [{"method": name, "ratio": r} for name in SEARCHED for r in settings.ratios]),
        smooth=records(smooth, [{"method": name, "gamma": one} for name in METHODS]),
    )


#: Colours of Okabe and Ito.
COLOURS = {
    "simultaneous": "#000000",
    "implicit": "#0072B2",
    "consensus": "#E69F00",
    "predictive": "#8B4A00",
    "extragradient": "#009E73",
    "optimistic": "#CC79A7",
    "alternating": "#56B4E9",
}


def plot(result: Result) -> Any:
    """Contraction over the step size, steps over the condition number, steps over sigma / a."""
    import matplotlib.pyplot as plt

    settings, one = result.settings, result.settings["gammas"][0]
    figure = plt.figure(figsize=(10, 9), layout="constrained")
    top, left, right = figure.subplot_mosaic([["top", "top"], ["left", "right"]]).values()
    s = np.linspace(0, 2.2, 1101)
    top.axhline(1, color="0.6", linewidth=0.8)
    for name, method in METHODS.items():
        # The same closed form for consensus and predictive: a wide line and large dots below narrow ones.
        wide, line = (2.2, "--") if name == "predictive" else (5 if name == "consensus" else 1.6, "-")
        gamma = rf", $\gamma\sigma = {one:g}$" if method.has_gamma else ""
        rows = _of(result.contraction, name)
        measured = next(each["measured"] for each in rows if (each["gamma"], each["condition"]) == (one, 1))
        top.plot(s, method.squared_modulus(s, 1j, one), line, color=COLOURS[name], linewidth=wide, label=name + gamma)
        size = 8 if name == "consensus" else 5
        top.plot(settings["etas"], np.square(measured), "o", color=COLOURS[name], markersize=size)
    for each in result.limit:
        if each["gamma"] == one and each["measured"] is not None:
            top.plot(each["measured"], 1.0, "v", color="white", markeredgecolor=COLOURS[each["method"]], markersize=11)
    top.plot([], [], "ko", markersize=5, label="measured")
    top.plot([], [], "v", color="white", markeredgecolor="black", markersize=11, label="divergence starts")
    top.set(xlim=(-0.03, 2.2), ylim=(0, 1.75), xlabel=r"$\eta\,\sigma$", ylabel="squared modulus of a step")
    top.set_title(r"$U = \theta^T C\,\omega$, one $\sigma$ (lines: closed forms)", loc="left")
    top.legend(loc="lower left", bbox_to_anchor=(1.18, 0.4), bbox_transform=top.transData, frameon=False, ncols=2)

    for name in dict.fromkeys(each["method"] for each in result.steps):
        rows = _of(result.steps, name)
        condition = [each["condition"] for each in rows]
        style = {"color": COLOURS[name], "linewidth": 5 if name == "consensus" else 1.6}
        left.plot(condition, [each["exact"] for each in rows], "--" if name == "predictive" else "-", **style)
        size = 8 if name == "consensus" else 5
        left.plot(condition, [each["worst"] for each in rows], "o", color=COLOURS[name], markersize=size)
        if rows[0]["bound"] is not None and name != "predictive":
            left.plot(condition, [each["bound"] for each in rows], ":", color=COLOURS[name], linewidth=2.6, zorder=4)
    left.plot([], [], "k-", label="exact modulus")
    left.plot([], [], "ko", markersize=5, label="measured, slowest mode")
    left.plot([], [], "k:", linewidth=2.4, label="theorem (remembered)")
    left.set(xscale="log", yscale="log", xlabel=r"condition number $\sigma_{\max} / \sigma_{\min}$")
    left.set_xticks(settings["conditions_steps"], map(str, settings["conditions_steps"]))
    left.minorticks_off()
    left.set_title(r"$U = \theta^T C\,\omega$ (colours as above)", loc="left")

    ratios = np.geomspace(0.1, 1.2 * max(settings["ratios"]), 200)
    scale = np.log(settings["accuracy"])
    right.plot(ratios, 2 * scale / np.log1p(1 / ratios**2), color=COLOURS["simultaneous"], label="exact modulus")
    right.plot(ratios, 2 * ratios**2 * scale, "--", color="#D55E00", label=r"$2\,\sigma^2/a^2\,\log(r/\epsilon)$")
    right.plot(ratios, 2 * (1 + ratios**2) * scale, ":", color="black", linewidth=2.4, label="theorem (remembered)")
    for name in SEARCHED:
        rows = [each for each in _of(result.slow_down, name) if each["ratio"] > 0]
        right.plot(
            [each["ratio"] for each in rows],
            [each["steps"] for each in rows],
            "o" if name == "simultaneous" else "o--",
            color=COLOURS[name],
            label=f"{name}, measured",
        )
    right.set(xscale="log", yscale="log", ylim=(2, None), xlabel=r"interaction $\sigma / a$")
    right.set_title(r"$U = a|\theta|^2/2 + \theta^T C\,\omega - a|\omega|^2/2$, best $\eta$", loc="left")
    for axes in (left, right):
        axes.set_ylabel(rf"steps to $|x| \leq {1 / settings['accuracy']:g}\,|x_0|$".replace("1e-06", "10^{-6}"))
        axes.legend(frameon=False, loc="upper left")
    return figure


def _of(records: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    """Records of these methods."""
    return [each for each in records if each["method"] in names]


def claim(result: Result) -> list[Sentence]:
    """Rates against closed forms, the limits, the slow-down, and the theorems."""
    return [*_bilinear(result), *_curved(result), *_bounds(result)]


def _bilinear(result: Result) -> list[Sentence]:
    """On ``theta^T C omega``."""
    settings, etas = result.settings, np.array(result.settings["etas"])
    error, spectral = (max(each[key] for each in result.contraction) for key in ("error", "spectral_error"))
    modulus = {name: [each["measured"] for each in _of(result.contraction, name)] for name in METHODS}
    sides, circle = [], 0.0
    for each in result.contraction:
        method, measured = METHODS[each["method"]], np.array(each["measured"])
        below = etas < method.limit(1.0, each["gamma"])
        sides += (measured[~below] > 1).tolist()
        if method.eta:
            sides += (measured[below] < 1).tolist()
        else:
            circle = max([circle, *np.abs(measured[below] - 1).tolist()])
    same = float(np.abs(np.subtract(modulus["consensus"], modulus["predictive"])).max())
    shift = max(abs(each["measured"] / each["exact"] - 1) for each in result.limit if each["exact"])
    lowest = _of(result.limit, "simultaneous")[0]["measured"]
    threshold = settings["threshold"]
    return [
        Sentence(
            f"On U = theta^T C omega the measured moduli of all {len(METHODS)} methods equal the exact ones to "
            f"{error:.1e}, for {len(etas) * len(result.contraction)} combinations of method, gamma, step size and "
            f"condition number; the spectral radii of the iteration matrices do to {spectral:.1e}.",
            error < 1e-6 and spectral < 1e-6,
            "threshold 1e-6; T doubles until two estimates of the rate agree to 1e-8",
        ),
        Sentence(
            "There simultaneous steps diverge at every tested step size (modulus at least "
            f"{np.min(modulus['simultaneous']):.4f}), and alternating ones neither converge nor, up to eta sigma_max = "
            f"2, diverge (modulus 1 to {circle:.0e}). Implicit, consensus, predictive, extragradient and optimistic "
            "steps converge exponentially at all tested step sizes below their limits, and diverge at all tested ones "
            "above.",
            all(sides) and circle < 1e-6,
            "threshold 1 for the moduli, 1e-6 for alternating",
        ),
        Sentence(
            f"Divergence starts at the derived step sizes, to {shift:.1e} (relative). For simultaneous steps it starts "
            f"below the smallest one that the threshold resolves, eta sigma_max = {lowest:.4f}; implicit steps "
            "converge up to 3.9.",
            shift < 4 * threshold + 1e-4
            and lowest < 3 * math.sqrt(2 * threshold) + threshold
            and _of(result.limit, "implicit")[0]["measured"] is None,
            f"diverging is a rate above {threshold:g}, and the slope of the rates at the limits is at least 1/2; 1e-4 "
            "for alternating, whose norm oscillates slowly near its limit; the simultaneous rate is about "
            "eta^2 sigma_min^2 / 2 or more",
        ),
        Sentence(f"Consensus and predictive steps contract alike, to {same:.0e}.", same < 1e-6, "A^2 = -A^T A"),
    ]


def _curved(result: Result) -> list[Sentence]:
    """With curvature in each player's variables."""
    settings, slowed = result.settings, _of(result.slow_down, "simultaneous")
    exact = np.array([_best(each["ratio"]) for each in slowed])
    eta = float(np.abs([each["eta"] for each in slowed] / exact[:, 0] - 1).max())
    squared = float(np.abs([each["squared"] for each in slowed] - exact[:, 1]).max())
    last, helped = slowed[-1], _of(result.slow_down, "extragradient")[-1]
    asymptote = 2 * last["ratio"] ** 2 * math.log(settings["accuracy"])
    local = max(abs(each["measured"] - each["exact"]) for each in result.smooth)
    return [
        Sentence(
            "With curvature a > 0 the interaction slows simultaneous steps down: the best step size is "
            f"a / (a^2 + sigma^2) to {eta:.0e} (relative), its squared modulus sigma^2 / (a^2 + sigma^2) to "
            f"{squared:.0e}. At sigma / a = {last['ratio']:g}, {last['steps']:,} steps are needed to "
            f"{1 / settings['accuracy']:g}, where 2 sigma^2 / a^2 log(r / eps) is {asymptote:,.0f}; extragradient "
            f"needs {helped['steps']:,}.",
            eta < 1e-6
            and squared < 1e-9
            and abs(last["steps"] / asymptote - 1) < 1 / last["ratio"] ** 2 + 1 / asymptote,
            "1e-6 and 1e-9: at a flat minimum the argument has the square root of the accuracy of the value; steps: "
            "1 / log(1 + 1/q) is between q and q + 1/2 for q = sigma^2 / a^2, and rounding adds one",
        ),
        Sentence(
            "On a smooth game (log cosh in place of the squares) the trajectories of all methods end with the rate of "
            f"the linearised game, to {local:.0e}.",
            local < 1e-6,
            "threshold 1e-6; the rate is measured from |x| = 1e-4 on, where the Jacobian differs by 1e-8",
        ),
    ]


def _bounds(result: Result) -> list[Sentence]:
    """Whether the bounds of the theorems are above the measured steps."""
    slowed = [
        each["steps"] / _theorem_steps(each["ratio"], result.settings["accuracy"])
        for each in _of(result.slow_down, "simultaneous")
    ]
    theorems = {
        "consensus and predictive": [
            "bilinear games",
            *(_most(each) / each["bound"] for each in _of(result.steps, "consensus", "predictive")),
            "derived: the squared modulus is at most 1 - gamma^2 lambda_min / (1 + gamma^2 lambda_max)",
        ],
        "optimistic": [
            "bilinear games",
            *(_most(each) / each["bound"] for each in _of(result.steps, "optimistic")),
            "derived: the modulus at the theorem's step size is about exp(-lambda_min / (16 lambda_max)), so that 8 in "
            "the bound is too small and 16 is enough; whether the paper or the memory of it is wrong is open",
        ],
        "simultaneous": [
            "strongly convex-concave games",
            *slowed,
            "derived: the squared modulus is at most 1 - alpha^2 / beta",
        ],
    }
    return [
        Sentence(
            f"The theorem's bound on the number of {names} steps on {game} (remembered, not read) is an upper "
            f"bound: the measured numbers are {min(shares):.2f} to {max(shares):.2f} times it.",
            max(shares) <= 1,
            margin,
        )
        for names, (game, *shares, margin) in theorems.items()
    ]


def _most(row: dict[str, Any]) -> int:
    """Largest measured number of steps, over the starts in the slowest mode and the random starts."""
    return max(row["worst"], row["random"][1])


def _best(ratio: float) -> tuple[float, float]:
    """``eta a`` and squared modulus of the best simultaneous step at ``sigma / a = ratio``."""
    return 1 / (1 + ratio**2), ratio**2 / (1 + ratio**2)


def _theorem_steps(ratio: float, accuracy: float) -> int:
    """Remembered: ``2 (beta / alpha^2) log(r / eps)``, with ``alpha = a`` and ``beta = a^2 + sigma^2``."""
    return math.ceil(2 * (1 + ratio**2) * math.log(accuracy))


def figures(result: Result) -> list[Figure]:
    """Limits, slow-down and bounds."""
    rows, accuracy = [], result.settings["accuracy"]
    for each in result.limit:
        name = each["method"] + (f", gamma sigma_max = {each['gamma']:g}" if METHODS[each["method"]].has_gamma else "")
        exact = "never" if each["exact"] is None else f"{each['exact']:.6f}"
        ours = "not up to 3.9" if each["measured"] is None else f"{each['measured']:.6f}"
        mark = "derived" if each["method"] == "alternating" else "checked"
        rows.append(Figure(f"{name}: diverges above eta sigma_max", exact, ours, mark))
    for each in _of(result.slow_down, "simultaneous"):
        name, (eta, squared) = f"simultaneous, sigma / a = {each['ratio']:g}", _best(each["ratio"])
        ours = f"{each['eta']:.6f}, {each['squared']:.6f}"
        rows.append(Figure(f"{name}: best eta a, squared modulus", f"{eta:.6f}, {squared:.6f}", ours, "checked"))
        bound = f"at most {_theorem_steps(each['ratio'], accuracy):,}"
        rows.append(Figure(f"{name}: steps to {1 / accuracy:g}", bound, f"{each['steps']:,}", "remembered"))
    for each in result.steps:
        if each["bound"]:
            name = f"{each['method']}, condition {each['condition']}: steps to {1 / accuracy:g}"
            rows.append(Figure(name, f"at most {each['bound']:,}", f"{_most(each):,}", "remembered"))
    return rows


def summary(result: Result) -> str:
    """The paper's claim, what was done, what came out."""
    settings = result.settings
    error = max(each["error"] for each in result.contraction)
    slowed, helped = (_of(result.slow_down, name) for name in SEARCHED)
    first = next(each for each in slowed if each["ratio"] == 1)
    optimistic = _of(result.steps, "optimistic")[-1]
    return (
        "The paper shows that the interaction between the players slows simultaneous gradient steps down near a stable "
        "equilibrium, and that it makes modified methods converge exponentially where U has no curvature in either "
        f"player's variables. Seven methods were iterated on bilinear games of {2 * settings['n']} variables with "
        f"condition numbers {', '.join(map(str, settings['conditions']))} and {settings['seeds']} random rotations. "
        f"The measured moduli equal the exact ones to {error:.0e}, and divergence starts where the closed forms say: "
        "never for implicit steps, at 1/sqrt(3) for optimistic mirror descent, at 1 for extragradient, at 2 gamma / "
        "(1 + gamma^2) for consensus and predictive steps, at 2 for alternating ones (in units of 1 / sigma_max), "
        "and at once for simultaneous ones. With curvature, simultaneous steps with the best step size need "
        f"{first['steps']:,} steps for sigma / a = 1 and {slowed[-1]['steps']:,} for {slowed[-1]['ratio']:g}, where "
        f"extragradient needs {helped[-1]['steps']:,}. The constants of the theorems are remembered, not read. Those "
        "for consensus, predictive and simultaneous steps bound the measured numbers. That for optimistic mirror "
        f"descent does not: at condition {optimistic['condition']} it gives {optimistic['bound']:,} steps, and "
        f"{_most(optimistic):,} are needed. With twice the factor it would be a bound; the paper's own constant could "
        "not be compared."
    )
