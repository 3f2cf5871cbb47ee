"""Closed forms of the Dirac-GAN, and what they are compared with: automatic differentiation and measured rates.

Let a and d be the diagonal of the Jacobian of the vector field at (0, 0), and bc the product of the entries off the
diagonal. The eigenvalues of the Jacobian are ``lambda = (a + d) / 2 +- sqrt((a - d)^2 / 4 + bc)``. Those of the update
are the roots of ``z^2 - trace z + det``, which follow from products of 2 x 2 matrices. With ``p = (1 + h a)^n_g``,
``q = (1 + h d)^n_d``, ``S(x, n) = 1 + x + ... + x^(n-1)`` and ``m = h^2 bc S(1 + h a, n_g) S(1 + h d, n_d)``::

    simultaneous    trace = p + q        det = p q - m        (1 + h lambda for n_g = n_d = 1)
    alternating     trace = p + q + m    det = p q

For a = d = 0 and bc = -f'(0)^2, the alternating roots are ``1 - s^2 / 2 +- sqrt((1 - s^2 / 2)^2 - 1)`` with
``s = sqrt(n_g n_d) h f'(0)``: they are on the unit circle if and only if s <= 2. Both roots are inside the unit circle
if and only if ``abs(det) < 1`` and ``abs(trace) < 1 + det``. For one step each, a + d < 0 and a d + bc < 0, this gives
the largest step sizes::

    simultaneous    h < min -2 Re(lambda) / abs(lambda)^2
    alternating     h < the positive root of 4 + 2 (a + d) h + (a d + bc) h^2

The objective's field is orthogonal to the state, ``theta v_theta + psi v_psi = 0``: the flow keeps
``r^2 = theta^2 + psi^2``, and a simultaneous update adds ``h^2 abs(v)^2``. That of the non-saturating GAN is not
orthogonal: ``d(r^2)/dt = -2 theta psi tanh(theta psi / 2)``, for small r about ``-(theta psi)^2``, the mean of which
over a turn is ``-r^4 / 8``. So its flow approaches the equilibrium sublinearly, ``1 / r^2 = 1 / r_0^2 + t / 8``, and so
do alternating updates, with t = h n after n updates. Simultaneous updates add ``h r^2 / 4`` per unit of time and
end in a cycle of radius ``sqrt(2 h)``. Both hold to first order in h.

All of this is derived. The eigenvalues of the vector fields and the GAN's alternating roots were not read in the paper.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor
from torch.func import jacrev
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.gans.dirac_methods import BY_NAME, METHODS, PENALTY, TARGET, Jacobian, Method, trajectories

#: Distance of the starts from which rates are measured.
NEAR = 1e-5


def trace_det(method: Method, h: float, *, alternating: bool) -> tuple[float, float]:
    """Closed forms of trace and determinant of the update's Jacobian at the equilibrium."""
    assert method.jacobian is not None
    a, d, bc = method.jacobian.a, method.jacobian.d, method.jacobian.bc
    n_g, n_d = method.generator_steps, method.discriminator_steps
    p, q = (1 + h * a) ** n_g, (1 + h * d) ** n_d
    m = h**2 * bc * sum((1 + h * a) ** k for k in range(n_g)) * sum((1 + h * d) ** k for k in range(n_d))
    return (p + q + m, p * q) if alternating else (p + q, p * q - m)


def update_eigenvalues(method: Method, h: float, *, alternating: bool) -> tuple[complex, complex]:
    """Closed forms of the eigenvalues of the update at the equilibrium."""
    trace, det = trace_det(method, h, alternating=alternating)
    root = cmath.sqrt(trace**2 / 4 - det)
    return trace / 2 + root, trace / 2 - root


def step_limit(method: Method, *, alternating: bool) -> float:
    """Closed form of the step size below which a method with one step each contracts."""
    assert method.jacobian is not None
    a, d, bc = method.jacobian.a, method.jacobian.d, method.jacobian.bc
    if not alternating:
        return min(-2 * z.real / abs(z) ** 2 for z in method.jacobian.eigenvalues)
    half, product = -(a + d), -(a * d + bc)
    return (-half + math.sqrt(half**2 + 4 * product)) / product


def update_jacobian(method: Method, h: float, *, alternating: bool) -> Tensor:
    """The Jacobian of the update at the equilibrium by automatic differentiation, shape (2, 2)."""
    step = torch.tensor(h, dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    return jacrev(lambda state: method.update(state, step, alternating=alternating))(zero)


def eigenvalues(method: Method, h: float, *, alternating: bool) -> dict[str, Any]:
    """Eigenvalues by automatic differentiation, and their deviation from the closed forms.

    The rounding u of the Jacobian changes a simple eigenvalue by about u, but a double one without two eigenvectors by
    about sqrt(u). Trace and determinant are compared, too, since these are accurate in both cases.
    """
    jacobian = update_jacobian(method, h, alternating=alternating)
    computed = sorted(torch.linalg.eigvals(jacobian).tolist(), key=lambda z: (z.real, z.imag))
    closed = sorted(update_eigenvalues(method, h, alternating=alternating), key=lambda z: (z.real, z.imag))
    trace, det = trace_det(method, h, alternating=alternating)
    return {
        "eigenvalues": [[z.real, z.imag] for z in computed],
        "modulus": max(map(abs, computed)),
        "closed_modulus": max(map(abs, closed)),
        "double": abs(closed[0] - closed[1]) < 1e-6,
        "deviation": max(abs(x - y) for x, y in zip(computed, closed, strict=True)),
        "coefficient_deviation": max(
            abs(float(jacobian.trace()) - trace),
            abs(float(jacobian[0, 0] * jacobian[1, 1] - jacobian[0, 1] * jacobian[1, 0]) - det),
        ),
    }


def rates(method: Method, factors: Sequence[float], growth: float, *, alternating: bool) -> dict[str, Any]:
    """Factor of the distance per update near the equilibrium, for step sizes relative to the limit.

    A trajectory has as many updates as change the distance by the power `growth` of e, and at least 50.
    The measured rate is the slope of log(distance) over the last three quarters of a trajectory, by least squares.
    """
    limit = step_limit(method, alternating=alternating)
    sizes = [factor * limit for factor in factors]
    exact = [max(map(abs, update_eigenvalues(method, h, alternating=alternating))) for h in sizes]
    counts = [max(50, math.ceil(growth / abs(math.log(modulus)))) for modulus in exact]
    starts = torch.full((len(sizes), 2), NEAR, dtype=torch.float64)
    path = trajectories(method, starts, torch.tensor(sizes, dtype=torch.float64), max(counts), alternating=alternating)
    measured = []
    for column, count in enumerate(counts):
        steps = np.arange(count // 4, count + 1)
        distances = path[steps, column].norm(dim=1).numpy()
        measured.append(math.exp(np.polyfit(steps, np.log(distances), 1)[0]))
    return {"limit": limit, "exact_rates": exact, "rates": measured}


def jump(h: float) -> dict[str, Any]:
    """How much the WGAN-GP update of psi differs on both sides of psi = 0, at theta = 0."""
    method = next(each for each in METHODS if each.jacobian is None)
    step = torch.tensor(h, dtype=torch.float64)

    def moved(psi: float) -> float:
        state = torch.tensor([0, psi], dtype=torch.float64)
        return float(method.update(state, step, alternating=False)[1])

    sizes = [1e-3, 1e-6, 1e-9]
    return {
        "eps": sizes,
        "difference": [moved(eps) - moved(-eps) for eps in sizes],
        "limit": 2 * h * PENALTY * TARGET,
    }


def circle() -> dict[str, list[float]]:
    """Moduli of the alternating GAN for s = sqrt(n_g n_d) h f'(0) = 1.99 and 2.01, with 1 and 5 discriminator steps."""
    moduli = {}
    for s in (1.99, 2.01):
        pairs = [(gan, s / (0.5 * math.sqrt(gan.discriminator_steps))) for gan in METHODS[:2]]
        jacobians = [update_jacobian(gan, h, alternating=True) for gan, h in pairs]
        moduli[f"{s}"] = [float(torch.linalg.eigvals(each).abs().max()) for each in jacobians]
    return moduli


def non_saturating_radius(h: float, updates: float, *, alternating: bool) -> float:
    """Closed form of the non-saturating GAN's distance to the equilibrium, from (1, 1)."""
    return 1 / math.sqrt(1 / 2 + h * updates / 8) if alternating else math.sqrt(2 * h)


def conserved(h: float, time: float) -> dict[str, float]:
    """What the GAN does to theta^2 + psi^2 from (1, 1): along the flow, and in a simultaneous update.

    A simultaneous update adds h^2 |v|^2, since v is orthogonal to the state.
    """
    gan = METHODS[0]
    start = torch.ones(2, dtype=torch.float64)
    field = make_fx(lambda state: gan.field(state))(start)  # recorded as in `trajectories`
    flow = solve_ivp(
        lambda _, state: field(torch.from_numpy(state)).numpy(),
        (0, time),
        start.numpy(),
        method="DOP853",
        rtol=1e-11,
        atol=1e-12,
    )
    squares = (flow.y**2).sum(0)
    after = gan.update(start, torch.tensor(h, dtype=torch.float64), alternating=False)
    return {
        "flow": float(abs(squares / squares[0] - 1).max()),
        "turns": float(abs(np.unwrap(np.arctan2(flow.y[1], flow.y[0]))[-1] - math.pi / 4) / (2 * math.pi)),
        "step": float((after**2).sum() / 2 - 1),
        "closed_step": float(h**2 * (gan.field(start) ** 2).sum() / 2),
    }


def published() -> dict[str, float]:
    """Deviations of two published formulas from automatic differentiation.

    The eigenvalues of R1 with f'(0) in place of its square, and the consensus field at (1, 1) with 1/2 in place of 1.
    """
    r1 = BY_NAME["R1/R2, γ = 0.3"]
    assert r1.jacobian is not None
    without_square = Jacobian(r1.jacobian.a, r1.jacobian.d, -1 / 2).eigenvalues
    state = torch.ones(2, dtype=torch.float64)
    computed = BY_NAME["Consensus, γ = 1"].field(state)
    return {
        "r1": abs(without_square[0] - r1.jacobian.eigenvalues[0]),
        "consensus_half": float((consensus_field(state, 0.5) - computed).abs().max()),
        "consensus_one": float((consensus_field(state, 1.0) - computed).abs().max()),
    }


def consensus_field(state: Tensor, factor: float) -> Tensor:
    """The consensus field with gamma = 1, written out; `factor` is that of the term with f''. The right one is 1."""
    theta, psi = state.unbind()
    first = torch.sigmoid(-psi * theta)  # f'
    second = -first * (1 - first)  # f''
    inner = factor * (theta**2 + psi**2) * first * second
    return torch.stack([-psi * first - theta * first**2 - psi * inner, theta * first - psi * first**2 - theta * inner])
