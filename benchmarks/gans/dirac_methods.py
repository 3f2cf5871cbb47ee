"""Training methods of the Dirac-GAN: losses, vector fields and updates.

The data are a point mass at 0, the generator is a point mass at theta, and the discriminator is D(x) = psi x. With
f(t) = -log(1 + exp(-t)), f'(0) = 1/2, f''(0) = -1/4, the objective is ``L(theta, psi) = f(psi theta) + f(0)``; the
generator minimizes it and the discriminator maximizes it. A method is a pair of losses, one for each player. Its vector
field is ``v(theta, psi) = (-d generator / d theta, -d discriminator / d psi)``, by automatic differentiation.

An update of step size h is n_g gradient steps of the generator and n_d of the discriminator. If it is simultaneous,
each player responds to the parameter that the other one had before; if it is alternating, the discriminator responds to
the generator's new parameter.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import softplus

#: A function of theta and psi, both scalars (shape ()), that a player minimizes.
Loss = Callable[[Tensor, Tensor], Tensor]

#: Parameters of the paper's picture, as in the notebook of its repository.
CLIP, PENALTY, TARGET, SIGMA, R1, R1_CRITICAL, CONSENSUS = 1.0, 0.7, 1.0, 0.7, 0.3, 1.0, 1.0


@dataclass(frozen=True)
class Jacobian:
    """The Jacobian of a vector field at (0, 0): its diagonal a, d and the product bc of the entries off it."""

    a: float
    d: float
    bc: float

    @property
    def eigenvalues(self) -> tuple[complex, complex]:
        """Eigenvalues of the vector field: lambda of `dirac_theory`."""
        root = cmath.sqrt((self.a - self.d) ** 2 / 4 + self.bc)
        return (self.a + self.d) / 2 + root, (self.a + self.d) / 2 - root


@dataclass(frozen=True)
class Method:
    """A training method.

    Parameters
    ----------
    name : str
    generator, discriminator : callable
        The losses.
    eigenvalues : str
        Formula of the eigenvalues of the vector field at the equilibrium, as text; derived, not read in the paper.
    jacobian : Jacobian, optional
        Its closed form at the equilibrium; None if it does not exist.
    converges : bool
        Whether the method converges at a linear rate for small h: the eigenvalues have negative real parts.
    generator_steps, discriminator_steps : int, default 1
        n_g and n_d.
    clip : float, default infinity
        Limit of abs(psi), to which each step of the discriminator is projected.
    """

    name: str
    generator: Loss
    discriminator: Loss
    eigenvalues: str
    jacobian: Jacobian | None
    converges: bool
    generator_steps: int = 1
    discriminator_steps: int = 1
    clip: float = math.inf

    def field(self, state: Tensor) -> Tensor:
        """The vector field v at a state, both of shape (2,)."""
        theta, psi = state.unbind()
        return -torch.stack([grad(self.generator, 0)(theta, psi), grad(self.discriminator, 1)(theta, psi)])

    def update(self, state: Tensor, h: Tensor, *, alternating: bool) -> Tensor:
        """The state (theta, psi), shape (2,), after an update of step size h, shape ()."""
        before, psi = state.unbind()
        theta = before
        for _ in range(self.generator_steps):
            theta = theta - h * grad(self.generator, 0)(theta, psi)
        seen = theta if alternating else before
        for _ in range(self.discriminator_steps):
            psi = (psi - h * grad(self.discriminator, 1)(seen, psi)).clamp(-self.clip, self.clip)
        return torch.stack([theta, psi])


def f(t: Tensor) -> Tensor:
    """f(t) = -log(1 + exp(-t))."""
    return -softplus(-t)


def objective(theta: Tensor, psi: Tensor) -> Tensor:
    """L(theta, psi) without its constant f(0)."""
    return f(psi * theta)


def wasserstein(theta: Tensor, psi: Tensor) -> Tensor:
    """The objective of the Wasserstein GAN: f(t) = t."""
    return psi * theta


def noisy_objective(sigma: float, nodes: int = 32) -> Loss:
    """The objective's expectation if noise N(0, sigma^2) is added to the samples and to the data.

    The expectation is Gauss-Hermite quadrature. At psi = 0 the derivatives up to the second are expectations of
    polynomials of degree 2, for which the quadrature is exact: d = 2 sigma^2 f''(0) = -sigma^2 / 2.
    """
    points, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(nodes))
    noise, weights = sigma * points, weights / weights.sum()
    return lambda theta, psi: (weights * (f(psi * (theta + noise)) + f(-psi * noise))).sum()


def negative(loss: Loss) -> Loss:
    """The loss of the player that maximizes."""
    return lambda theta, psi: -loss(theta, psi)


def plus(loss: Loss, penalty: Loss) -> Loss:
    """The sum of a loss and a penalty."""
    return lambda theta, psi: loss(theta, psi) + penalty(theta, psi)


def gradient_penalty(gamma: float) -> Loss:
    """The penalty gamma / 2 times the squared gradient of D(x) = psi x, the same at x = 0 (R1) and x = theta (R2)."""
    return lambda theta, psi: gamma / 2 * psi**2


def norm_penalty(gamma: float, target: float) -> Loss:
    """The penalty of WGAN-GP: gamma / 2 times the square of the gradient's norm minus the target."""
    return lambda theta, psi: gamma / 2 * (psi.abs() - target) ** 2


def consensus_penalty(gamma: float) -> Loss:
    """The penalty gamma / 2 times |v|^2, where v is the vector field of the objective."""

    def penalty(theta: Tensor, psi: Tensor) -> Tensor:
        by_theta, by_psi = grad(objective, (0, 1))(theta, psi)
        return gamma / 2 * (by_theta**2 + by_psi**2)

    return penalty


def r1(gamma: float) -> Method:
    """The GAN with the zero-centred gradient penalty R1 or R2."""
    name = f"R1/R2, γ = {gamma:g}" + (" (critical)" if gamma == R1_CRITICAL else "")
    formula = "-γ/2 ± sqrt(γ²/4 - f'(0)²)"
    loss = plus(negative(objective), gradient_penalty(gamma))
    return Method(name, objective, loss, formula, Jacobian(0, -gamma, -1 / 4), converges=True)


def instance_noise(sigma: float) -> Method:
    """The GAN with noise of standard deviation sigma added to samples and data."""
    loss = noisy_objective(sigma)
    jacobian = Jacobian(0, -(sigma**2) / 2, -1 / 4)
    name, formula = f"Instance noise, σ = {sigma:g}", "-σ²/4 ± sqrt(σ⁴/16 - 1/4)"
    return Method(name, loss, negative(loss), formula, jacobian, converges=True)


def consensus(gamma: float) -> Method:
    """Consensus optimization: both players add gamma |v|^2 / 2."""
    penalty = consensus_penalty(gamma)
    losses = plus(objective, penalty), plus(negative(objective), penalty)
    jacobian = Jacobian(-gamma / 4, -gamma / 4, -1 / 4)
    return Method(f"Consensus, γ = {gamma:g}", *losses, "-γ/4 ± i/2", jacobian, converges=True)


def gan(generator_steps: int = 1, discriminator_steps: int = 1) -> Method:
    """The GAN without regularization, with n_g and n_d steps."""
    return Method(
        f"GAN, {discriminator_steps} D step{'s' if discriminator_steps > 1 else ''}",
        objective,
        negative(objective),
        "± i/2",
        Jacobian(0, 0, -1 / 4),
        converges=False,
        generator_steps=generator_steps,
        discriminator_steps=discriminator_steps,
    )


def _non_saturating(theta: Tensor, psi: Tensor) -> Tensor:
    return -f(-psi * theta)


_CRITIC = negative(wasserstein)

#: The ten methods.
METHODS = (
    gan(),
    gan(discriminator_steps=5),
    Method("Non-saturating GAN", _non_saturating, negative(objective), "± i/2", Jacobian(0, 0, -1 / 4), False),
    Method("WGAN", wasserstein, _CRITIC, "± i", Jacobian(0, 0, -1), False),
    Method(f"WGAN, clip {CLIP:g}", wasserstein, _CRITIC, "± i", Jacobian(0, 0, -1), False, clip=CLIP),
    Method(f"WGAN-GP, γ = {PENALTY:g}", wasserstein, plus(_CRITIC, norm_penalty(PENALTY, TARGET)), "none", None, False),
    instance_noise(SIGMA),
    r1(R1),
    r1(R1_CRITICAL),
    consensus(CONSENSUS),
)

BY_NAME = {method.name: method for method in METHODS}


def fields(method: Method, states: Tensor) -> Tensor:
    """The vector field at states, both of shape (n, 2)."""
    return vmap(method.field)(states)


def trajectories(
    method: Method,
    starts: Tensor,
    h: Tensor,
    steps: int,
    *,
    alternating: bool,
    advance: Callable[[], None] = lambda: None,
) -> Tensor:
    """Trajectories, shape (steps + 1, n, 2), from starts of shape (n, 2) with step sizes of shape (n,).

    The update is recorded once as a graph of tensor operations, which runs four times as fast with identical results.
    """
    update = vmap(lambda state, step: method.update(state, step, alternating=alternating))
    starts = torch.stack([starts[:, 0], starts[:, 1].clamp(-method.clip, method.clip)], 1)
    recorded = make_fx(update)(starts, h)
    states = [starts]
    for _ in range(steps):
        states.append(recorded(states[-1], h))
        advance()
    return torch.stack(states)
