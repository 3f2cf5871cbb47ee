"""Heavy ball with friction: the recursion, its flow, torch.optim.Adam, and balls on a function with two minima.

Heusel et al. 2017 write Adam as the recursion [read]::

    theta_n+1 = theta_n - a m_n
    m_n+1     = (1 - a r) m_n + a r (grad f(theta_n) + noise)        beta1 = 1 - a r

With ``v = -m`` this is an Euler step of length a [derived] of ::

    theta' = v,    v' = -r v - r grad f(theta)
    E = |v|^2 / (2 r) + f,    dE/dt = v v' / r + grad f v = -|v|^2

so that the two agree to O(a). With a decaying step, beta1 = 1 - a(n+1) r(n) [read]; here a(n+1) = a (n+1)^(-tau) is the
step of theta_n too. The steps at a given t are then O(a^(1/(1 - tau))), which is the order [derived].
The paper's energy ``E = |v|^2 / 2 + f`` with ``dE/dt = -a |v|^2`` [read] belongs to the equation
``theta'' + c theta' + grad f = 0`` with c for its a. That is the same flow in the time ``s = sqrt(r) t``, with the
friction ``c = sqrt(r)`` [derived]: ``theta_t = sqrt(r) theta_s``, so that E is the same, and
``dE/dt = sqrt(r) dE/ds = -r |theta_s|^2 = -|theta_t|^2``.

In the recursion on a quadratic f with the Hessian H, exactly [derived]::

    E_n+1 - E_n = -a |m|^2 + a^2 (m H m + r |m - grad f|^2) / 2

Thus energy may rise near turning points, where m is small: by O(a^2) in O(a^(-1/2)) steps, O(a^1.5) in total. For an
eigenvalue h of H with r < 4 h, the factor of a step has the squared modulus ``1 - a r (1 - a h)``: the recursion is
stable if ``a h < 1``, and has less friction than the flow [derived].

``torch.optim.Adam`` differs in three respects [derived]: it uses m_n+1 for theta_n+1, which is the semi-implicit Euler
step, also of first order; its bias correction is a varying friction, ``r_n = (1 - beta1) / (a (1 - beta1^n))``; and it
divides by the root of the second moment s. With constant s it is the heavy ball in the coordinates
``phi_i = s_i^(1/4) theta_i``. `compare_with_torch` checks this. It does not cover a second moment that changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import brentq

from benchmarks.gans.work import Part

#: The function of one variable: ``f(x) = CURVATURE (x - FLAT)^2 / 2 - DEPTH exp(-x^2 / (2 WIDTH^2))``.
FLAT, CURVATURE, DEPTH, WIDTH = 4.0, 0.25, 1.2, 0.2
#: Diagonal of the Hessian of the quadratic.
HESSIAN = np.array([0.25, 4.0])


def f(x: Any) -> Any:
    """The function with two minima."""
    return CURVATURE / 2 * (x - FLAT) ** 2 - DEPTH * np.exp(-((x / WIDTH) ** 2) / 2)


def grad_f(x: Any) -> Any:
    """Derivative of `f`."""
    return CURVATURE * (x - FLAT) + DEPTH * x / WIDTH**2 * np.exp(-((x / WIDTH) ** 2) / 2)


def critical_points() -> tuple[float, float, float]:
    """The sharp minimum, the barrier and the flat minimum."""
    return brentq(grad_f, -0.1, 0.1), brentq(grad_f, 0.2, 1.0), brentq(grad_f, 3.0, 5.0)


def quadratic(x: Any) -> Any:
    """A quadratic function of two variables."""
    return (HESSIAN * x**2).sum(-1) / 2


def grad_quadratic(x: Any) -> Any:
    """Gradient of `quadratic`."""
    return HESSIAN * x


def step(theta: Any, m: Any, grad: Any, a: float, r: Any, *, adam: bool = False) -> tuple[Any, Any]:
    """One step of the recursion, in the paper's order or in that of torch.optim.Adam.

    `theta`, `m` and `grad` have the same shape, any.
    """
    new_m = (1 - a * r) * m + a * r * grad
    return theta - a * (new_m if adam else m), new_m


def flow(grad: Callable[[Any], Any], start: Any, friction: float, force: float, time: float) -> Any:
    """Solution of theta' = v, v' = -friction v - force grad f from rest at `start`, of shape (dim,).

    Returns a callable: times of shape (len,) to shape (2 dim + 1, len), which are theta, v and the integral of |v|^2.
    """
    dim = len(start)

    def derivative(t: float, z: np.ndarray) -> np.ndarray:
        theta, v = z[:dim], z[dim : 2 * dim]
        return np.concatenate([v, -friction * v - force * grad(theta), [v @ v]])

    z = np.concatenate([start, np.zeros(dim + 1)])
    return solve_ivp(derivative, (0, time), z, method="DOP853", rtol=1e-11, atol=1e-13, dense_output=True).sol


def energy(value: Any, v: Any, r: float) -> Any:
    """|v|^2 / (2 r) + f, for one variable."""
    return v**2 / (2 * r) + value


def stationary_deviation(a: float, r: float, h: float, noise: float) -> float:
    """Standard deviation of theta on a quadratic of curvature h: a step keeps the covariance of (theta, m)."""
    matrix = np.array([[1, -a], [a * r * h, 1 - a * r]])
    return float(np.sqrt(solve_discrete_lyapunov(matrix, np.diag([0, (a * r * noise) ** 2]))[0, 0]))


def roll(start: float, a: float, r: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths of theta and m from rest on `f`, both of shape (steps + 1,)."""
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


#: Name to gradient and start.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], list[float]]] = {
    "quadratic": (grad_quadratic, [1.0, -1.0]),
    "two minima": (grad_f, [-2.0]),
}
#: The paper's recursion with constant a and with a(n) = a n^(-tau), and the order of torch.optim.Adam.
RECURSIONS = ("paper", "paper, decaying a", "Adam")
TAU = 0.25


def distances(part: Part, *, function: str, recursion: str, a: float, r: float, time: float, halvings: int) -> Any:
    """Steps a, in units of t, and largest distances between recursion and flow, in units of theta."""
    grad, start = FUNCTIONS[function]
    decaying = "decaying" in recursion
    exact = flow(grad, start, r, r, time * 1.01)
    steps = [(4 * a if decaying else a) / 2**k for k in range(halvings + 1)]
    found = []
    for first in steps:
        theta, m, t, n, path = np.array(start), np.zeros(len(start)), 0.0, 0, []
        while t < time:
            n += 1
            # The step from theta_n-1 to theta_n has a(n) and beta1 = 1 - a(n) r: the paper's a(n+1) for n - 1.
            a_n = first * n**-TAU if decaying else first
            theta, m = step(theta, m, grad(theta), a_n, r, adam=recursion == "Adam")
            t += a_n
            path.append((t, *theta))
        table = np.array(path).T
        found.append(float(np.linalg.norm(table[1:] - exact(table[0])[: len(start)], axis=0).max()))
    return {"a": steps, "distance": found}


def path_of_ball(part: Part, *, a: float, r: float, large_r: float, start: float, time: float) -> dict[str, Any]:
    """Ball, flow and gradient descent from one start; the energy's balance in the flow, its rises in the recursion."""
    exact = flow(grad_f, [start], r, r, time)
    t = np.linspace(0, time, 2_001)
    x, v, spent = exact(t)
    e = energy(f(x), v, r)
    c = math.sqrt(r)
    paper_x, paper_v, paper_spent = flow(grad_f, [start], c, 1.0, c * time)(c * t)
    paper = paper_v**2 / 2 + f(paper_x)
    rises = {}
    for k in range(3):
        ball, m = roll(start, a / 2**k, r, round(time / a) * 2**k)
        change = np.diff(energy(f(ball), m, r))
        rises[str(a / 2**k)] = [float((change > 0).mean()), float(change[change > 0].sum())]
        if k == 0:
            path, momentum = ball, m
    slowed, _ = roll(start, a, large_r, round(time / a))
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
        "slowed": slowed[shown].tolist(),
        "descent": np.array(descent)[shown].tolist(),
        "ends": {
            "ball": float(path[-1]),
            "slowed": float(slowed[-1]),
            "flow": float(x[-1]),
            "gradient descent": float(descent[-1]),
        },
        "balance": float(np.abs(e - e[0] + spent).max()),
        "paper_balance": float(np.abs(paper - paper[0] + c * paper_spent).max()),
        "paper_difference": float(max(np.abs(paper_x - x).max(), np.abs(paper - e).max())),
        "flow_rise": float(np.diff(e).max()),
        "rises": rises,
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
    """Balls that start at rest in a minimum and get noisy gradients: share in it over time, and standard deviation in
    the flat minimum.

    The standard deviation is over the seeds and over times 2,000 steps apart, which are nearly independent: their
    correlation decays at the rate r / 2 of t.
    """
    sharp, barrier, flat = critical_points()
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    theta, m = np.tile([[sharp], [flat]], (1, seeds)), np.zeros((2, seeds))
    t, stayed, squares = [0.0], [[1.0, 1.0]], []
    for n in range(1, steps + 1):
        if n % 1_000 == 1:
            block = np.stack([generator.normal(0, noise, 1_000) for generator in generators], axis=1)
        theta, m = step(theta, m, grad_f(theta) + block[(n - 1) % 1_000], a, r)
        if n % 2_000 == 0:
            squares.append(float(np.mean((theta[1] - flat) ** 2)))
        if n % 200 == 0:
            t.append(n * a)
            stayed.append([float((theta[0] < barrier).mean()), float((theta[1] > barrier).mean())])
    return {"t": t, "stayed": stayed, "samples": len(squares) * seeds, "deviation": float(np.sqrt(np.mean(squares)))}
