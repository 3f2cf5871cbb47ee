"""Adam as a heavy ball with friction.

Heusel et al. 2017 write Adam as the recursion [read]::

    theta_n+1 = theta_n - a m_n
    m_n+1     = (1 - a r) m_n + a r (grad f(theta_n) + noise)        beta1 = 1 - a r

With ``v = -m`` this is an Euler step of length a [derived] of ::

    theta' = v,    v' = -r v - r grad f(theta)
    E = |v|^2 / (2 r) + f,    dE/dt = v v' / r + grad f v = -|v|^2

so that the two agree to O(a); with a(n) = a n^(-tau) steps at a given t are O(a^(1/(1 - tau))), which is the order then
[derived]. The paper's energy ``E = |v|^2 / 2 + f`` with ``dE/ds = -c |v|^2`` [read] belongs to
``theta'' + c theta' + grad f = 0``, which is the same flow in the time ``s = sqrt(r) t`` with the friction
``c = sqrt(r)`` [derived]: ``theta_t = sqrt(r) theta_s``, and ``dE/dt = sqrt(r) dE/ds = -r |theta_s|^2 = -|theta_t|^2``.

In the recursion on a quadratic f with the Hessian H, exactly [derived]::

    E_n+1 - E_n = -a |m|^2 + a^2 (m H m + r |m - grad f|^2) / 2

Thus energy may rise near turning points, where m is small: by O(a^2) in O(a^(-1/2)) steps, O(a^1.5) in total. For an eigenvalue h of H with r < 4 h the factor of a step
has the squared modulus ``1 - a r (1 - a h)``, so that the recursion is stable if ``a h < 1`` [derived].

``torch.optim.Adam`` differs in three respects [derived, compared here with torch itself]: it uses m_n+1 for theta_n+1,
which is the semi-implicit Euler step, also of first order; its bias correction is a varying friction,
``r_n = (1 - beta1) / (a (1 - beta1^n))``; and it divides by the root of the second moment s. With constant s it is the
heavy ball in the coordinates ``phi_i = s_i^(1/4) theta_i``. With a changing s this experiment says nothing about it.

The function has a sharp and a flat minimum: ``f(x) = (x - 4)^2 / 8 - 1.2 exp(-x^2 / (2 * 0.2^2))``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

from benchmarks.gans.experiment import Figure, Sentence
from benchmarks.gans.work import Part, Work

CLAIM = "Adam follows a heavy ball with friction, which passes sharp minima and settles in flat ones."
PAPER = "Heusel, Ramsauer, Unterthiner, Nessler & Hochreiter 2017, arXiv 1706.08500"

FLAT, CURVATURE, DEPTH, WIDTH = 4.0, 0.25, 1.2, 0.2
HESSIAN = np.array([0.25, 4.0])
#: Allowed distance of a measured deviation from its closed form, in standard errors. 6e-5 of normal errors exceed it.
STANDARD_ERRORS = 4.0


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment."""

    seeds: int
    #: Step and friction of the paths; beta1 = 1 - a r = 0.995.
    a: float = 0.01
    r: float = 0.5
    start: float = -2.0
    #: Length of the paths in units of t. Energy falls below the barrier until then with all frictions of the map.
    time: float = 40.0
    #: Length of the paths of torch.optim.Adam.
    torch_time: float = 20.0
    #: Length of the paths that are compared with the flow, and how often their step is halved.
    order_time: float = 10.0
    halvings: int = 6
    #: The map: starts from -4 to 12, frictions r from 0.1 to 100.
    starts: int = 129
    frictions: int = 61
    #: Steps and deviation of the noise of the runs that start at rest in a minimum.
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


def f(x: Any) -> Any:
    """The function with two minima."""
    return CURVATURE / 2 * (x - FLAT) ** 2 - DEPTH * np.exp(-((x / WIDTH) ** 2) / 2)


def grad_f(x: Any) -> Any:
    """Derivative of `f`."""
    return CURVATURE * (x - FLAT) + DEPTH * x / WIDTH**2 * np.exp(-((x / WIDTH) ** 2) / 2)


def quadratic(x: Any) -> Any:
    """A quadratic function of two variables."""
    return (HESSIAN * x**2).sum(-1) / 2


def grad_quadratic(x: Any) -> Any:
    """Gradient of `quadratic`."""
    return HESSIAN * x


#: Name to gradient and start.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "quadratic": (grad_quadratic, [1.0, -1.0]),
    "two minima": (grad_f, [-2.0]),
}
#: The paper's recursion with constant a and with a(n) = a n^(-tau), and the order of torch.optim.Adam.
RECURSIONS = ("paper", "paper, decaying a", "Adam")
TAU = 0.25


def step(theta: Any, m: Any, grad: Any, a: float, r: Any, *, adam: bool = False) -> tuple[Any, Any]:
    """One step of the recursion, in the paper's order or in that of torch.optim.Adam."""
    new_m = (1 - a * r) * m + a * r * grad
    return theta - a * (new_m if adam else m), new_m


def flow(grad: Callable[[Any], Any], start: Any, friction: float, force: float, time: float) -> Any:
    """Solution of theta' = v, v' = -friction v - force grad f from rest, and the integral of |v|^2 after theta, v."""
    dim = len(start)

    def derivative(t: float, z: np.ndarray) -> np.ndarray:
        theta, v = z[:dim], z[dim : 2 * dim]
        return np.concatenate([v, -friction * v - force * grad(theta), [v @ v]])

    z = np.concatenate([start, np.zeros(dim + 1)])
    return solve_ivp(derivative, (0, time), z, method="DOP853", rtol=1e-11, atol=1e-13, dense_output=True).sol


def energy(value: Any, v: Any, r: float) -> Any:
    """|v|^2 / (2 r) + f, for one variable."""
    return v**2 / (2 * r) + value


def critical_points() -> tuple[float, float, float]:
    """The sharp minimum, the barrier and the flat minimum."""
    return brentq(grad_f, -0.1, 0.1), brentq(grad_f, 0.2, 1.0), brentq(grad_f, 3.0, 5.0)


def distances(part: Part, *, function: str, recursion: str, a: float, r: float, time: float, halvings: int) -> Any:
    """Steps and largest distances between recursion and flow."""
    grad, start = FUNCTIONS[function]
    decaying = "decaying" in recursion
    exact = flow(grad, start, r, r, time * 1.01)
    steps = [(4 * a if decaying else a) / 2**k for k in range(halvings + 1)]
    found = []
    for first in steps:
        theta, m, t, n, path = np.array(start), np.zeros(len(start)), 0.0, 0, []
        while t < time:
            n += 1
            a_n = first * n**-TAU if decaying else first
            theta, m = step(theta, m, grad(theta), a_n, r, adam=recursion == "Adam")
            t += a_n
            path.append((t, *theta))
        table = np.array(path).T
        found.append(float(np.linalg.norm(table[1:] - exact(table[0])[: len(start)], axis=0).max()))
    return {"a": steps, "distance": found}


def path_of_ball(part: Part, *, a: float, r: float, start: float, time: float) -> dict[str, Any]:
    """Ball, flow and gradient descent from one start; the balance of the flow's energy; rises of the recursion's."""
    exact = flow(grad_f, [start], r, r, time)
    t = np.linspace(0, time, 2_001)
    x, v, spent = exact(t)
    e = energy(f(x), v, r)
    c = math.sqrt(r)
    paper_x, paper_v, paper_spent = flow(grad_f, [start], c, 1.0, c * time)(c * t)
    paper = paper_v**2 / 2 + f(paper_x)
    rises = {}
    for k in range(3):
        ball, m = _ball(start, a / 2**k, r, round(time / a) * 2**k)
        change = np.diff(energy(f(ball), m, r))
        rises[str(a / 2**k)] = [float((change > 0).mean()), float(change[change > 0].sum())]
        if k == 0:
            path, momentum = ball, m
    descent = [start]
    for _ in range(round(time / a)):
        descent.append(descent[-1] - a * grad_f(descent[-1]))
    shown = np.arange(0, len(path), max(1, len(path) // 400))
    flow_x, flow_v, _ = exact((shown * a).clip(max=time))
    return {
        "t": (shown * a).tolist(),
        "ball": path[shown].tolist(),
        "energy": energy(f(path), momentum, r)[shown].tolist(),
        "flow": flow_x.tolist(),
        "flow_energy": energy(f(flow_x), flow_v, r).tolist(),
        "descent": np.array(descent)[shown].tolist(),
        "ends": {"ball": float(path[-1]), "flow": float(x[-1]), "gradient descent": float(descent[-1])},
        "balance": float(np.abs(e - e[0] + spent).max()),
        "paper_balance": float(np.abs(paper - paper[0] + c * paper_spent).max()),
        "paper_difference": float(max(np.abs(paper_x - x).max(), np.abs(paper - e).max())),
        "flow_rise": float(np.diff(e).max()),
        "rises": rises,
    }


def _ball(start: float, a: float, r: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    theta, m, path = start, 0.0, [(start, 0.0)]
    for _ in range(steps):
        theta, m = step(theta, m, grad_f(theta), a, r)
        path.append((theta, m))
    return tuple(np.array(path).T)


def grad_two(theta: np.ndarray) -> np.ndarray:
    """Gradient of f(theta_1) + (theta_2 - theta_1 / 2)^2 / 2, for the comparison with torch."""
    x, y = theta
    return np.array([grad_f(x) - (y - x / 2) / 2, y - x / 2])


def torch_adam(
    a: float, beta1: float, *, second: list[float] | None, steps: int, correct: bool, start: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Paths of theta and m of torch.optim.Adam with a constant second moment.

    With `second` None, eps is 1e15 and lr is a times that, so that the root of the second moment is lost in rounding.
    Otherwise the second moment starts there, and beta2 is the largest number below 1, which keeps it to 1e-12. Unless
    `correct`, the state says that so many steps were done that both bias corrections are 1.
    """
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    lr, eps = (a * 1e15, 1e15) if second is None else (a, 0.0)
    optimizer = torch.optim.Adam([theta], lr=lr, betas=(beta1, 0.999 if second is None else 1 - 2.0**-53), eps=eps)
    if not correct:
        optimizer.state[theta] = {
            "step": torch.tensor(1e18),
            "exp_avg": torch.zeros_like(theta),
            "exp_avg_sq": torch.zeros_like(theta) if second is None else torch.tensor(second, dtype=torch.float64),
        }
    path = []
    for _ in range(steps):
        theta.grad = torch.from_numpy(grad_two(theta.detach().numpy()))
        optimizer.step()
        path.append([theta.detach().clone().numpy(), optimizer.state[theta]["exp_avg"].clone().numpy()])
    found = np.array(path)
    return found[:, 0], found[:, 1]


def compare_with_torch(part: Part, *, a: float, r: float, time: float) -> dict[str, float]:
    """Largest differences between torch.optim.Adam and the recursion in Adam's order, and where Adam ends."""
    steps, beta1, start = round(time / a), 1 - a * r, [-2.0, 1.0]
    second = np.array([0.25, 4.0])

    def recursion(scale: np.ndarray, corrected: bool) -> tuple[np.ndarray, np.ndarray]:
        phi, m, path = np.array(start) * scale, np.zeros(2), []
        for n in range(1, steps + 1):
            r_n = (1 - beta1) / (a * (1 - beta1**n)) if corrected else r
            phi, m = step(phi, m, grad_two(phi / scale) / scale, a, r_n, adam=True)
            path.append([phi / scale, m * scale])
        found = np.array(path)
        return found[:, 0], found[:, 1]

    ones = np.ones(2)
    plain, m = torch_adam(a, beta1, second=None, steps=steps, correct=False, start=start)
    ours, our_m = recursion(ones, corrected=False)
    corrected, _ = torch_adam(a, beta1, second=None, steps=steps, correct=True, start=start)
    scaled, _ = torch_adam(a, beta1, second=second.tolist(), steps=steps, correct=False, start=start)
    return {
        "theta": float(np.abs(plain - ours).max()),
        "first moment": float(np.abs(m - our_m).max()),
        "bias correction": float(np.abs(corrected - recursion(ones, corrected=True)[0]).max()),
        "second moment": float(np.abs(scaled - recursion(second**0.25, corrected=False)[0]).max()),
        "end": float(plain[-1, 0]),
    }


def map_of_ends(part: Part, *, a: float, time: float, starts: int, frictions: int) -> dict[str, Any]:
    """Where balls and gradient descent settle: a row for each friction, a column for each start; 1 is flat."""
    x0 = np.linspace(-4, 12, starts)
    r = np.geomspace(0.1, 100, frictions)[:, None]
    theta, m, descent = np.tile(x0, (frictions, 1)), np.zeros((frictions, starts)), x0
    barrier = critical_points()[1]
    for _ in range(round(time / a)):
        theta, m = step(theta, m, grad_f(theta), a, r)
        descent = descent - a * grad_f(descent)
    return {
        "starts": x0.tolist(),
        "r": r[:, 0].tolist(),
        "ball": (theta > barrier).astype(int).tolist(),
        "descent": (descent > barrier).astype(int).tolist(),
        "undecided": int((energy(f(theta), m, r) > f(barrier)).sum()),
    }


def stay_with_noise(part: Part, *, a: float, r: float, seeds: int, steps: int, noise: float) -> dict[str, Any]:
    """Balls that start at rest in a minimum and get noisy gradients: share in it over time, deviation in the flat.

    The deviation is over the seeds and times with a distance of 20, so that these are independent."""
    sharp, barrier, flat = critical_points()
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    theta, m = np.tile([[sharp], [flat]], (1, seeds)), np.zeros((2, seeds))
    t, stayed, squares = [0.0], [[1.0, 1.0]], []
    for n in range(1, steps + 1):
        if n % 1_000 == 1:
            block = np.stack([generator.normal(0, noise, 1_000) for generator in generators], axis=1)
        theta, m = step(theta, m, grad_f(theta) + block[(n - 1) % 1_000], a, r)
        if n % 2_000 == 0 and n * a >= 20:
            squares.append(float(np.mean((theta[1] - flat) ** 2)))
        if n % 200 == 0:
            t.append(n * a)
            stayed.append([float((theta[0] < barrier).mean()), float((theta[1] > barrier).mean())])
    return {"t": t, "stayed": stayed, "samples": len(squares) * seeds, "deviation": float(np.sqrt(np.mean(squares)))}


def stationary_deviation(a: float, r: float, h: float, noise: float) -> float:
    """Deviation of theta on a quadratic of curvature h, from the covariance of (theta, m) that a step keeps."""
    matrix = np.array([[1, -a], [a * r * h, 1 - a * r]])
    return float(np.sqrt(solve_discrete_lyapunov(matrix, np.diag([0, (a * r * noise) ** 2]))[0, 0]))


def run(settings: Settings, work: Work) -> Result:
    """Compare recursions, flow and torch, and let the ball roll."""
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
        path=single(path_of_ball, "path", **common, start=s.start, time=s.time),
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
    """Shares of the map.

    `high` are the starts left of the sharp minimum where f is above the barrier, `low` those below it, both with a
    distance of 0.01, which is more than the recursion's energy rises in total.
    """
    ends, (sharp, barrier, _), top = result.ends, result.landscape["x"], result.landscape["f"][1]
    x, ball = np.array(ends["starts"]), np.array(ends["ball"], bool)
    left, right = x < barrier, x > barrier
    low, far = (x < barrier) & (f(x) < top - 0.01), x <= sharp - 5 * WIDTH
    share = ball[:, far].mean(axis=1)
    r = np.array(ends["r"])
    return {
        "low": int(ball[:, low].sum()),
        "right": float(ball[:, right].mean()),
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
    expected = 1 / (1 - TAU)
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
            "Adam with constant step and friction follows the ball with an error of order 1 in the step: the last "
            f"halving gives {min(constant.values()):.3f} to {max(constant.values()):.3f} for the paper's and torch's "
            "order, on a quadratic and on the function with two minima.",
            all(abs(value - 1) < 0.02 for value in constant.values()),
            "derived: c1 a + c2 a^2 gives 1 + O(a), and the deviation from 1 halves with a; 0.02 is more than that of "
            "the first halving",
        ),
        Sentence(
            f"With a(n) = a n^(-{TAU:g}) the order is 1 / (1 - {TAU:g}) = {expected:.3f}: measured "
            f"{min(decaying.values()):.3f} to {max(decaying.values()):.3f}.",
            all(abs(value - expected) < 0.03 for value in decaying.values()),
            "derived: the steps at a given t are O(a^(1/(1 - tau)))",
        ),
        Sentence(
            "Along the flow the energy falls by the integral of |v|^2, and the paper's form in the time sqrt(r) t with "
            f"the friction sqrt(r) is the same path and energy: largest difference {difference:.0e}.",
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
            f"{ends['ball']:.2f}, gradient descent at {ends['gradient descent']:.2f}.",
            ends["ball"] > barrier > ends["gradient descent"],
            f"the barrier is at {barrier:.2f}; gradient descent cannot pass since a f'' is at most "
            f"{s['a'] * (CURVATURE + DEPTH / WIDTH**2):.2f} < 1 (derived)",
        ),
        Sentence(
            f"From all starts at least {5 * WIDTH:g} left of the sharp minimum the ball passes it with a friction r up "
            f"to {shares['all_to']:.2g}, and from none with r from {shares['none_from']:.2g}; gradient descent passes "
            f"from {shares['descent_left']} of {shares['left']} starts.",
            0 < shares["all_to"] < shares["none_from"] and shares["descent_left"] == 0,
            "a map of starts and frictions; all runs end with less energy than the barrier"
            if result.ends["undecided"] == 0
            else f"{result.ends['undecided']} runs of the map are undecided",
        ),
        Sentence(
            f"No ball that starts with less energy than the barrier passes it ({shares['low']} runs), and "
            f"{100 * shares['right']:.0f} % of those that start beyond the barrier keep the flat minimum.",
            shares["low"] == 0 and shares["right"] == 1,
            "the first is derived: energy falls; the second is measured",
        ),
        Sentence(
            f"Started at rest in a minimum, with gradient noise of {s['noise']:g}, {100 * flat_stay:.0f} % of the balls "
            f"are in the flat one after {s['noise_steps']:,} steps, and {100 * sharp_stay:.0f} % in the sharp one.",
            flat_stay == 1 and sharp_stay < 0.8,
            f"derived: transition state theory allows {_departures(result):.2g} departures from the flat one in all "
            "seeds",
        ),
        Sentence(
            f"In the flat minimum theta has the deviation {result.noise['deviation']:.3f} ({closed:.3f} by the "
            "recursion's stationary covariance).",
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
            "read",
        ),
    ]


def summary(result: Result) -> str:
    """The claim, what was done, what came out."""
    s, shares, finest = result.settings, passing(result), orders(result)
    constant = [values[-1] for name, values in finest.items() if "decaying" not in name]
    sharp_stay, flat_stay = result.noise["stayed"][-1]
    slowest = 1 - s["a"] * shares["none_from"]
    return (
        "The paper describes Adam as a heavy ball with friction, which rolls over sharp minima and settles in flat "
        "ones. The recursion was compared with the exact flow on a quadratic and on a function with a sharp and a flat "
        f"minimum: halving the step halves the distance (orders {min(constant):.3f} to {max(constant):.3f}). "
        "torch.optim.Adam with a constant second moment is the same recursion to rounding, except that it uses the new "
        "first moment; its bias correction is a friction that decreases. The energy falls along the flow; in the "
        f"recursion it rises slightly near turning points. Of balls from the left, all pass the sharp minimum with a "
        f"friction r up to {shares['all_to']:.2g} and none from {shares['none_from']:.2g}: the claim is one about large "
        f"momentum, here beta1 above {slowest:.3f} at the step {s['a']:g}. With more friction the ball stops in the "
        "first minimum, as gradient descent with this step does from every start. With gradient noise of "
        f"{s['noise']:g}, {100 * flat_stay:.0f} % of {s['seeds']} balls stayed in the flat minimum for "
        f"{s['noise_steps']:,} steps, and {100 * sharp_stay:.0f} % in the sharp one."
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
    paths.plot(t, gd, color=descent, label="gradient descent")
    for place, colour, name in ((sharp, sharp_colour, "sharp minimum"), (flat, flat_colour, "flat minimum")):
        paths.axhline(place, color=colour, lw=1, ls=":", label=name)
    paths.set(xlabel="t = a n", ylabel="θ", title=f"Paths from θ = {s['start']:g}", ylim=(-2.3, 8.5))
    energies.plot(t, path["energy"], color=ball, label="recursion")
    energies.plot(t, path["flow_energy"], "--", color="black", lw=1, label="flow")
    energies.plot(t, f(gd), color=descent, label="f of gradient descent")
    energies.axhline(result.landscape["f"][1], color="0.5", lw=1, ls=":", label="f at the barrier")
    energies.set(xlabel="t = a n", ylabel="energy |v|²/(2r) + f", title="Energy")
    styles = dict(zip(RECURSIONS, (("o", ball), ("^", "#e69f00"), ("s", "#56b4e9")), strict=True))
    for function, line in zip(FUNCTIONS, ("-", ":"), strict=True):
        for recursion, (marker, colour) in styles.items():
            row = result.order[f"{function}, {recursion}"]
            label = recursion if line == "-" else None
            order.loglog(row["a"], row["distance"], line, marker=marker, ms=4, color=colour, label=label)
    order.plot([], [], ":", color="0.3", label="(dotted) two minima")
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
    noise.set(xlabel="t = a n", ylabel="balls still there, %", title="Started at rest, with noise", ylim=(0, 105))
    for axis in axes.flat:
        axis.title.set_fontsize(11)
        axis.legend(fontsize=8, frameon=axis is ends)
    return figure
