"""Smooth two-player games, and methods to solve them.

The game is ``min over theta, max over omega of U(theta, omega)``. Its field is ``v = (grad_theta U, -grad_omega U)``,
and K is the Jacobian of v at the equilibrium 0. For ``U = a |theta|^2/2 + theta^T C omega - a |omega|^2/2``,
``K = a I + A`` with ``A = [[0, C], [-C^T, 0]]`` has the eigenvalues ``kappa = a +- i sigma``, for each singular value
sigma of C.
Each method multiplies the part of the state that belongs to kappa by the factors given at its closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Game:
    """``U = a sum p(theta_i) + theta^T C omega - a sum p(omega_i)``, with ``p(t) = t^2/2`` or ``log cosh t``.

    All methods accept a batch of states: `x` has shape (..., 2 n) and holds theta and omega.
    """

    #: Interaction, shape (..., n, n).
    C: Array
    #: Curvature of U at the equilibrium, in theta and -omega.
    a: float = 0.0
    #: Whether p is ``log cosh`` instead of the quadratic function.
    log_cosh: bool = False

    def field(self, x: Array) -> Array:
        """``v(x)``."""
        theta, omega = np.split(x, 2, axis=-1)
        interaction = [(self.C @ omega[..., None])[..., 0], -(theta[..., None, :] @ self.C)[..., 0, :]]
        v = np.concatenate(interaction, axis=-1)
        if self.a:
            v += self.a * (np.tanh(x) if self.log_cosh else x)
        return v

    def jacobian(self, x: Array) -> Array:
        """Derivative of v at x, shape (..., 2 n, 2 n)."""
        n = self.C.shape[-1]
        jacobian = np.zeros((*np.broadcast_shapes(x.shape[:-1], self.C.shape[:-2]), 2 * n, 2 * n))
        jacobian[..., :n, n:] = self.C
        jacobian[..., n:, :n] = -np.swapaxes(self.C, -1, -2)
        diagonal = np.arange(2 * n)
        jacobian[..., diagonal, diagonal] = self.a * (1 - np.tanh(x) ** 2 if self.log_cosh else 1.0)
        return jacobian

    def adjoint(self, x: Array, u: Array) -> Array:
        """Transposed Jacobian of v at x, times u: with ``u = v(x)`` the gradient of ``|v|^2/2``."""
        theta, omega = np.split(u, 2, axis=-1)
        interaction = [-(self.C @ omega[..., None])[..., 0], (theta[..., None, :] @ self.C)[..., 0, :]]
        product = np.concatenate(interaction, axis=-1)
        if self.a:
            product += self.a * (u * (1 - np.tanh(x) ** 2) if self.log_cosh else u)
        return product


@dataclass(frozen=True)
class Bound:
    """A theorem's step size, and the number of steps after which ``|x| <= eps`` if ``|x| = r`` at the start.

    All of them are remembered, not read. Arguments: the extreme eigenvalues of ``C^T C``, gamma, and ``r / eps``.
    """

    eta: Callable[[float, float], float]
    steps: Callable[[float, float, float, float], float]


@dataclass(frozen=True)
class Method:
    """An update rule, and what is derived about it."""

    name: str
    #: ``step(x, x_before, eta, gamma, game)`` is the next state; `x_before` is the state before x.
    step: Callable[[Array, Array, Array, float, Game], Array]
    #: ``squared_modulus(eta, kappa, gamma)`` of the largest factor.
    squared_modulus: Callable[..., Array]
    #: ``limit(sigma_max, gamma)``: the method diverges on ``theta^T C omega`` if eta is larger.
    limit: Callable[[float, float], float]
    #: ``eta(sigma_max, gamma)`` with which it converges on ``theta^T C omega``; None if it never does.
    eta: Callable[[float, float], float] | None = None
    #: Whether gamma has an effect.
    has_gamma: bool = False
    bound: Bound | None = None


def simultaneous(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x - eta v(x)``."""
    return x - eta * game.field(x)


def implicit(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x'`` with ``x' + eta v(x') = x``, by Newton's method (one iteration if v is linear)."""
    new = x
    for _ in range(20):
        residual = new + eta * game.field(new) - x
        if np.abs(residual).max() <= 1e-14 * np.abs(x).max():
            break
        jacobian = np.eye(x.shape[-1]) + eta[..., None] * game.jacobian(new)
        new = new - np.linalg.solve(jacobian, residual[..., None])[..., 0]
        if not game.log_cosh:
            break
    return new


def consensus(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x - eta (v + gamma grad |v|^2/2)``."""
    v = game.field(x)
    return x - eta * (v + gamma * game.adjoint(x, v))


def predictive(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x - eta v(x - gamma v(x))``."""
    return x - eta * game.field(x - gamma * game.field(x))


def extragradient(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x - eta v(x - eta v(x))``."""
    return x - eta * game.field(x - eta * game.field(x))


def optimistic(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``x - 2 eta v(x) + eta v(x_before)``."""
    return x - 2 * eta * game.field(x) + eta * game.field(x_before)


def alternating(x: Array, x_before: Array, eta: Array, gamma: float, game: Game) -> Array:
    """``theta' = theta - eta grad_theta U(theta, omega)``; ``omega' = omega + eta grad_omega U(theta', omega)``."""
    n = x.shape[-1] // 2
    new = x.copy()
    new[..., :n] -= eta * game.field(x)[..., :n]
    new[..., n:] -= eta * game.field(new)[..., n:]
    return new


def _squared(factor: Array) -> Array:
    return np.abs(factor) ** 2


def _optimistic_modulus(eta: Array, kappa: Array, gamma: float) -> Array:
    """Of the roots of ``z^2 = (1 - 2 eta kappa) z + eta kappa``."""
    root = np.sqrt(1 + 4 * (eta * kappa) ** 2 + 0j)
    return np.maximum(_squared(1 - 2 * eta * kappa + root), _squared(1 - 2 * eta * kappa - root)) / 4


def _alternating_modulus(eta: Array, kappa: Array, gamma: float) -> Array:
    """Of the roots of ``z^2 = (2 (1 - eta a) - eta^2 sigma^2) z - (1 - eta a)^2``."""
    half = 1 - eta * kappa.real - (eta * kappa.imag) ** 2 / 2
    root = np.sqrt(half**2 - (1 - eta * kappa.real) ** 2 + 0j)
    return np.maximum(_squared(half + root), _squared(half - root))


def _consensus_limit(sigma: float, gamma: float) -> float:
    """Where ``(1 - eta gamma sigma^2)^2 + eta^2 sigma^2 = 1``; it decreases in sigma."""
    return 2 * gamma / (1 + gamma**2 * sigma**2)


def _consensus_eta(sigma: float, gamma: float) -> float:
    return gamma / (1 + gamma**2 * sigma**2)


#: Remembered. It follows from the squared modulus, at most ``1 - gamma^2 lambda / (1 + gamma^2 lambda_max)``.
_CONSENSUS_BOUND = Bound(
    eta=lambda lambda_max, gamma: gamma / (1 + gamma**2 * lambda_max),
    steps=lambda lambda_min, lambda_max, gamma, r_eps: (
        2 * (lambda_max / lambda_min + 1 / (gamma**2 * lambda_min)) * np.log(r_eps)
    ),
)

#: Remembered. Here the squared modulus ``(1 + sqrt(1 - 4 s^2)) / 2`` is about ``exp(-lambda_min / (8 lambda_max))``.
_OPTIMISTIC_BOUND = Bound(
    eta=lambda lambda_max, gamma: 1 / (2 * np.sqrt(2 * lambda_max)),
    steps=lambda lambda_min, lambda_max, gamma, r_eps: 8 * lambda_max / lambda_min * np.log(4 * r_eps),
)

METHODS = {
    method.name: method
    for method in (
        Method(
            "simultaneous",
            simultaneous,
            lambda eta, kappa, gamma: _squared(1 - eta * kappa),
            limit=lambda sigma, gamma: 0.0,
        ),
        Method(
            "implicit",
            implicit,
            lambda eta, kappa, gamma: 1 / _squared(1 + eta * kappa),
            limit=lambda sigma, gamma: np.inf,
            eta=lambda sigma, gamma: 1 / sigma,
        ),
        Method(
            "consensus",
            consensus,
            lambda eta, kappa, gamma: _squared(1 - eta * (kappa + gamma * _squared(kappa))),
            limit=_consensus_limit,
            eta=_consensus_eta,
            has_gamma=True,
            bound=_CONSENSUS_BOUND,
        ),
        Method(
            "predictive",
            predictive,
            lambda eta, kappa, gamma: _squared(1 - eta * kappa * (1 - gamma * kappa)),
            limit=_consensus_limit,
            eta=_consensus_eta,
            has_gamma=True,
            bound=_CONSENSUS_BOUND,
        ),
        Method(
            "extragradient",
            extragradient,
            lambda eta, kappa, gamma: _squared(1 - eta * kappa * (1 - eta * kappa)),
            limit=lambda sigma, gamma: 1 / sigma,
            eta=lambda sigma, gamma: 1 / (np.sqrt(2) * sigma),
        ),
        Method(
            "optimistic",
            optimistic,
            _optimistic_modulus,
            limit=lambda sigma, gamma: 1 / (np.sqrt(3) * sigma),
            eta=lambda sigma, gamma: 1 / (2 * np.sqrt(2) * sigma),
            bound=_OPTIMISTIC_BOUND,
        ),
        Method(
            "alternating",
            alternating,
            _alternating_modulus,
            limit=lambda sigma, gamma: 2 / sigma,
        ),
    )
}
