"""Adam as a heavy ball with friction.

Heusel et al. 2017 write Adam as the recursion [read]::

    theta_n+1 = theta_n - a m_n
    m_n+1     = (1 - a r) m_n + a r (grad f(theta_n) + noise)        beta1 = 1 - a r

It is an Euler step of ``theta' = v, v' = -r v - r grad f(theta)`` with v = -m, a ball with friction whose energy
``E = |v|^2 / (2 r) + f`` falls by ``dE/dt = -|v|^2`` [derived]. The module `heavy_ball` derives this, the relation to
the paper's energy, and that to torch.optim.Adam. Here the derivations are measured, and the paper's picture is drawn: a
ball that overshoots a sharp minimum and settles in a flat one, of
``f(theta) = (theta - 4)^2 / 8 - 1.2 exp(-theta^2 / (2 * 0.2^2))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.gans.experiment import HEUSEL, Figure, Sentence
from benchmarks.gans.heavy_ball import (
    CURVATURE,
    DEPTH,
    FUNCTIONS,
    RECURSIONS,
    TAU,
    WIDTH,
    compare_with_torch,
    critical_points,
    distances,
    f,
    map_of_ends,
    path_of_ball,
    stationary_deviation,
    stay_with_noise,
)
from benchmarks.gans.work import Work

CLAIM = (
    "Adam with a constant second moment is a heavy ball with friction: it can pass sharp minima and stay in flat ones."
)
PAPER = HEUSEL

#: Allowed difference of a measured standard deviation from its closed form, in standard errors; 6e-5 of normal errors
#: exceed it.
STANDARD_ERRORS = 4.0


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    seeds: int
    #: Step and friction of the paths; beta1 = 1 - a r = 0.995.
    a: float = 0.01
    r: float = 0.5
    #: A friction with which the ball stays in the sharp minimum, beta1 = 0.9.
    large_r: float = 10.0
    start: float = -2.0
    #: Length of the paths in units of t. Energy falls below the barrier until then with all frictions of the map.
    time: float = 40.0
    #: Length of the paths of torch.optim.Adam.
    torch_time: float = 20.0
    #: Length of the paths that are compared with the flow, and how often their step is halved.
    order_time: float = 10.0
    halvings: int = 5
    #: The map: starts from -4 to 12, frictions r from 0.1 to 100.
    starts: int = 129
    frictions: int = 61
    #: Steps and standard deviation of the noise of the runs that start at rest in a minimum.
    noise_steps: int = 20_000
    noise: float = 5.0


QUICK = Settings(seeds=100, halvings=3, starts=65, frictions=25)
FULL = Settings(seeds=400)


@dataclass(frozen=True)
class Result:
    """Result of the experiment."""

    settings: dict[str, Any]
    #: Places of the sharp minimum, the barrier and the flat minimum, and f there.
    landscape: dict[str, list[float]]
    #: Function and recursion to steps a and the largest distances from the flow.
    order: dict[str, dict[str, list[float]]]
    #: What `path_of_ball` returns.
    path: dict[str, Any]
    #: What `compare_with_torch` returns.
    torch: dict[str, float]
    #: What `map_of_ends` returns.
    ends: dict[str, Any]
    #: What `stay_with_noise` returns.
    noise: dict[str, Any]


def run(settings: Settings, work: Work) -> Result:
    """Compare recursions, flow and torch, and simulate balls from many starts and with noise."""
    s = settings
    common = {"a": s.a, "r": s.r}
    parts = {
        f"{function}, {recursion}": {
            "function": function, "recursion": recursion, "time": s.order_time, "halvings": s.halvings, **common
        }
        for function in FUNCTIONS
        for recursion in RECURSIONS
    }  # fmt: skip
    points = critical_points()

    def single(function: Callable[..., Any], name: str, **arguments: Any) -> Any:
        return work.map(function, {name: arguments}, label=name)[name]

    return Result(
        settings=asdict(s),
        landscape={"x": list(points), "f": [float(f(x)) for x in points]},
        order=work.map(distances, parts, label="order"),
        path=single(path_of_ball, "path", **common, large_r=s.large_r, start=s.start, time=s.time),
        torch=single(compare_with_torch, "torch", **common, time=s.torch_time),
        ends=single(map_of_ends, "map", a=s.a, time=s.time, starts=s.starts, frictions=s.frictions),
        noise=single(stay_with_noise, "noise", **common, seeds=s.seeds, steps=s.noise_steps, noise=s.noise),
    )


def orders(result: Result) -> dict[str, list[float]]:
    """log2 of the ratio of successive distances."""
    return {
        name: np.log2(np.divide(row["distance"][:-1], row["distance"][1:])).tolist()
        for name, row in result.order.items()
    }


def passing(result: Result) -> dict[str, Any]:
    """Counts of the map: which starts and frictions lead to the flat minimum.

    `low`: balls that pass the barrier though they start left of it with less energy. `right`: share of those from
    beyond the barrier that keep the flat minimum. `all_to`, `none_from`: largest friction with which all starts far
    left pass, and smallest with which none does.
    """
    ends, (sharp, barrier, _), top = result.ends, result.landscape["x"], result.landscape["f"][1]
    x, ball = np.array(ends["starts"]), np.array(ends["ball"], bool)
    left = x < barrier
    low, far = left & (f(x) < top), x <= sharp - 5 * WIDTH
    share = ball[:, far].mean(axis=1)
    r = np.array(ends["r"])
    return {
        "low": int(ball[:, low].sum()),
        "right": float(ball[:, ~left].mean()),
        "descent_left": int(np.array(ends["descent"], bool)[left].sum()),
        "left": int(left.sum()),
        "all_to": float(r[: int(np.argmin(share == 1))].max(initial=0.0)),
        "none_from": float(r[share == 0].min(initial=np.inf)),
    }


def claim(result: Result) -> list[Sentence]:
    """What the paper claims of Adam and of the ball."""
    s, ends, found = result.settings, result.path["ends"], orders(result)
    barrier = result.landscape["x"][1]
    finest = {name: values[-1] for name, values in found.items()}
    constant = {name: value for name, value in finest.items() if "decaying" not in name}
    decaying = {name: value for name, value in finest.items() if "decaying" in name}
    first = max(abs(values[0] - 1) for name, values in found.items() if "decaying" not in name)
    expected = 1 / (1 - TAU)
    first_decaying = max(abs(values[0] - expected) for name, values in found.items() if "decaying" in name)
    rises = list(result.path["rises"].values())
    exponent = math.log2(rises[-2][1] / rises[-1][1])
    shares, torch_ = passing(result), result.torch
    worst = max(value for name, value in torch_.items() if name != "end")
    sharp_stay, flat_stay = result.noise["stayed"][-1]
    closed = stationary_deviation(s["a"], s["r"], CURVATURE, s["noise"])
    error = closed / math.sqrt(2 * result.noise["samples"])
    difference = max(result.path[name] for name in ("balance", "paper_balance", "paper_difference"))
    return [
        Sentence(
            "The recursion with constant step and friction follows the flow with an error of order 1 in the step: the "
            f"last halving gives {min(constant.values()):.3f} to {max(constant.values()):.3f} for the paper's and "
            "torch's order, on a quadratic and on the function with two minima.",
            all(abs(value - 1) < 0.02 for value in constant.values()),
            f"derived: 1 + O(a), below 0.02 from the first halving on, which is off by {first:.3f}",
        ),
        Sentence(
            f"With a(n) = a n^(-{TAU:g}) the order is 1 / (1 - {TAU:g}) = {expected:.3f}: measured "
            f"{min(decaying.values()):.3f} to {max(decaying.values()):.3f}.",
            all(abs(value - expected) < 0.03 for value in decaying.values()),
            "derived: the steps at a given t are O(a^(1 / (1 - tau))); the first halving is off by "
            f"{first_decaying:.3f}",
        ),
        Sentence(
            "Along the flow the energy falls by the integral of |v|^2, and the paper's form, in the time sqrt(r) t and "
            f"with the friction sqrt(r), has the same path and energy: largest difference {difference:.0e}.",
            difference < 1e-8 and result.path["flow_rise"] <= 1e-12,
            "the solver's tolerance of 1e-11 a step, over some 1,000 steps",
        ),
        Sentence(
            f"In the recursion the energy rises in {100 * rises[0][0]:.1f} % of the steps, by {rises[0][1]:.1g} in "
            f"total, and the total shrinks with the power {exponent:.2f} of the step.",
            abs(exponent - 1.5) < 0.1,
            "derived: rises of O(a^2) in O(a^(-1/2)) steps around each turning point, power 1.5",
        ),
        Sentence(
            f"The ball overshoots the sharp minimum and settles in the flat one: from {s['start']:g} it ends at "
            f"{ends['ball']:.2f} with r = {s['r']:g}; gradient descent ends at {ends['gradient descent']:.2f}.",
            ends["ball"] > barrier > ends["gradient descent"],
            f"the barrier is at {barrier:.2f}; gradient descent cannot pass since a f'' is at most "
            f"{s['a'] * (CURVATURE + DEPTH / WIDTH**2):.2f} < 1 (derived)",
        ),
        Sentence(
            f"From all starts at least {5 * WIDTH:g} left of the sharp minimum, the ball passes it with r up to "
            f"{shares['all_to']:.2g}, and from none of them with r from {shares['none_from']:.2g}; gradient descent "
            f"passes it from {shares['descent_left']} of {shares['left']} starts.",
            0 < shares["all_to"] < shares["none_from"] and shares["descent_left"] == result.ends["undecided"] == 0,
            f"measured on the map; {result.ends['undecided']} balls end with enough energy to pass the barrier",
        ),
        Sentence(
            f"No ball that starts with less energy than the barrier passes it ({shares['low']} runs), and "
            f"{100 * shares['right']:.0f} % of those that start beyond the barrier keep the flat minimum.",
            shares["low"] == 0 and shares["right"] == 1,
            "the first is derived for the flow, whose energy falls; the second is measured",
        ),
        Sentence(
            f"Of the balls that start at rest in a minimum, with noise of standard deviation {s['noise']:g} on the "
            f"gradient, {100 * flat_stay:.0f} % are in the flat one after {s['noise_steps']:,} steps, and "
            f"{100 * sharp_stay:.0f} % in the sharp one.",
            flat_stay == 1 and sharp_stay < 0.8,
            f"derived: transition state theory allows {_departures(result):.2g} departures from the flat one in all "
            f"seeds; the sharp share has the binomial standard deviation {math.sqrt(0.25 / s['seeds']):.3f}; "
            + _barriers(result),
        ),
        Sentence(
            f"In the flat minimum theta has the standard deviation {result.noise['deviation']:.3f} ({closed:.3f} by "
            "the recursion's stationary covariance).",
            abs(result.noise["deviation"] - closed) < STANDARD_ERRORS * error,
            f"derived: {STANDARD_ERRORS:g} standard errors of {error:.3f}",
        ),
        Sentence(
            "torch.optim.Adam is this recursion with beta1 = 1 - a r: with a constant second moment, with and without "
            f"its bias correction, paths differ by at most {worst:.0e}, and it ends at {torch_['end']:.2f}.",
            worst < 1e-10 and torch_["end"] > barrier,
            "rounding over the steps; beta2 = 1 - 2^-53 changes the second moment by 1e-12",
        ),
    ]


def _barriers(result: Result) -> str:
    """Depth of the two minima, on which the shares depend besides the sharpness."""
    sharp, top, flat = result.landscape["f"]
    return (
        f"the barrier is {top - sharp:.2f} above the sharp minimum and {top - flat:.2f} above the flat one, and the "
        "share depends on this height: a deeper sharp minimum would keep the balls (derived)"
    )


def _departures(result: Result) -> float:
    """Balls that leave the flat minimum by transition state theory: a bound on the rate, w/2pi exp(-barrier / T)."""
    s, (_, barrier, flat) = result.settings, result.landscape["f"]
    temperature = s["a"] * s["noise"] ** 2 / 2
    rate = math.sqrt(s["r"] * CURVATURE) / (2 * math.pi) * math.exp(-(barrier - flat) / temperature)
    return rate * s["noise_steps"] * s["a"] * s["seeds"]


def figures(result: Result) -> list[Figure]:
    """The paper's statements and the derived orders beside those of the result."""
    finest = {name: values[-1] for name, values in orders(result).items()}
    shares = passing(result)
    return [
        Figure(
            f"Order of the agreement with the flow, {name}",
            f"{1 / (1 - TAU):.3f}" if "decaying" in name else "1",
            f"{value:.3f}",
            "derived",
        )
        for name, value in finest.items()
    ] + [
        Figure(
            "Energy along the flow",
            "dE/dt = -a |v|^2",
            f"the same after rescaling the time, to {result.path['paper_balance']:.0e}",
            "read",
        ),
        Figure(
            "The ball at a sharp minimum",
            "overshoots it, settles in a flat one",
            f"with r up to {shares['all_to']:.2g}; not from r = {shares['none_from']:.2g}",
            "derived",
        ),
    ]


def summary(result: Result) -> str:
    """The claim, what was done, what came out."""
    s, shares, finest = result.settings, passing(result), orders(result)
    constant = [values[-1] for name, values in finest.items() if "decaying" not in name]
    sharp_stay, flat_stay = result.noise["stayed"][-1]
    return (
        "The paper describes Adam as a heavy ball with friction, which rolls over sharp minima and settles in flat "
        "ones. The recursion was compared with the exact flow on a quadratic and on a function with a sharp and a flat "
        f"minimum: halving the step halves the distance (orders {min(constant):.3f} to {max(constant):.3f}). "
        "torch.optim.Adam with a constant second moment is the same recursion to rounding, except that it uses the new "
        "first moment; its bias correction is a friction that decreases. The energy falls along the flow; in the "
        "recursion it rises slightly near turning points. Whether the ball passes the sharp minimum depends on the "
        f"friction: all do that start far to the left with r up to {shares['all_to']:.2g}, and none from "
        f"{shares['none_from']:.2g}. At the step {s['a']:g} this needs beta1 above "
        f"{1 - s['a'] * shares['none_from']:.3f}; with {1 - s['a'] * s['large_r']:g} the ball ends at "
        f"{result.path['ends']['slowed']:.2f}, in the sharp minimum, as gradient descent does from every start on its "
        f"side. With noise of standard deviation {s['noise']:g} on the gradient, {100 * flat_stay:.0f} % of "
        f"{s['seeds']} balls stayed in the flat minimum for {s['noise_steps']:,} steps, and {100 * sharp_stay:.0f} % "
        f"in the sharp one; {_barriers(result)}."
    )


def plot(result: Result) -> Any:
    """Landscape, paths, energy, order, map and noise."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    ball, descent, sharp_colour, flat_colour = "#0072b2", "#d55e00", "#cc79a7", "#009e73"
    s, path = result.settings, result.path
    sharp, barrier, flat = result.landscape["x"]
    t, x, gd = (np.array(path[name]) for name in ("t", "ball", "descent"))
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.6), layout="constrained")
    (landscape, paths, energies), (order, ends, noise) = axes
    grid = np.linspace(-3, 8, 600)
    landscape.plot(grid, f(grid), color="0.55", label="f")
    shown = np.arange(0, len(x) // 2, 4)
    landscape.scatter(x[shown], f(x[shown]) + 0.12, s=12, color=ball, label="ball", zorder=3)
    landscape.plot(gd[shown], f(gd[shown]) + 0.3, "x", ms=4, color=descent, label="gradient descent")
    landscape.set(xlabel="θ", ylabel="f(θ)", title="Function with a sharp and a flat minimum")
    paths.plot(t, x, color=ball, label=f"recursion, r = {s['r']:g}")
    paths.plot(t, path["flow"], "--", color="black", lw=1, label="flow")
    paths.plot(t, path["slowed"], color="#56b4e9", lw=4, label=f"recursion, r = {s['large_r']:g}")
    paths.plot(t, gd, color=descent, label="gradient descent")
    for place, colour, name in ((sharp, sharp_colour, "sharp minimum"), (flat, flat_colour, "flat minimum")):
        paths.axhline(place, color=colour, lw=1, ls=":", label=name)
    paths.set(xlabel="t = a n", ylabel="θ", title=f"Paths from θ = {s['start']:g}", xlim=(-1, 26), ylim=(-2.3, 9.5))
    energies.plot(t, path["energy"], color=ball, label="recursion")
    energies.plot(t, path["flow_energy"], "--", color="black", lw=1, label="flow")
    energies.plot(t, f(gd), color=descent, label="f of gradient descent")
    energies.axhline(result.landscape["f"][1], color="0.5", lw=1, ls=":", label="f at the barrier")
    energies.set(xlabel="t = a n", ylabel="energy |v|²/(2r) + f", title="Energy", xlim=(-1, 26))
    styles = dict(zip(RECURSIONS, (("o", ball), ("^", "#e69f00"), ("s", "#56b4e9")), strict=True))
    for function, line in zip(FUNCTIONS, ("-", ":"), strict=True):
        for recursion, (marker, colour) in styles.items():
            row = result.order[f"{function}, {recursion}"]
            label = recursion if line == "-" else None
            order.loglog(row["a"], row["distance"], line, marker=marker, ms=4, color=colour, label=label)
    order.plot([], [], "-", color="0.3", label="quadratic")
    order.plot([], [], ":", color="0.3", label="two minima")
    guide = np.array([s["a"] / 2 ** s["halvings"], s["a"]])
    order.loglog(guide, guide * 0.2, color="0.5", lw=1, ls="--", label="slope 1")
    order.set(xlabel="step a", ylabel="largest distance from the flow", title="Order of the agreement")
    map_ = result.ends
    colours = ListedColormap([sharp_colour, flat_colour])
    ends.pcolormesh(map_["starts"], map_["r"], map_["ball"], cmap=colours, vmin=0, vmax=1, shading="nearest")
    ends.axvline(barrier, color="black", lw=1, ls=":")
    ends.set(yscale="log", xlabel="start θ", ylabel="friction r = (1 - β1) / a", title="Minimum where the ball settles")
    for colour, name in ((sharp_colour, "sharp"), (flat_colour, "flat")):
        ends.plot([], [], "s", color=colour, label=name)
    ends.plot([], [], ":", color="black", label="barrier")
    stayed = 100 * np.array(result.noise["stayed"])
    noise.plot(result.noise["t"], stayed[:, 1], color=flat_colour, label="flat")
    noise.plot(result.noise["t"], stayed[:, 0], color=sharp_colour, label="sharp")
    noise.set(
        xlabel="t = a n",
        ylabel="balls still in their minimum (%)",
        title="Started at rest, with noise",
        ylim=(0, 105),
    )
    for axis in axes.flat:
        axis.title.set_fontsize(11)
        corner = {order: "lower right", noise: "lower left"}.get(axis, "upper right")
        axis.legend(fontsize=8, frameon=axis is ends, loc=corner)
    return figure
