"""Measurements of methods on random games: rates, limits, numbers of steps.

A rate is the logarithm of a modulus. It is measured on iterated trajectories, without eigenvalues: the state is
normalised in each step, and the rate is a mean of ``log |x_t+1| - log |x_t|`` over the last half. A mode that rotates
modulates these increments, and their plain mean (the slope between two points) has an error of order 1/T. The mean is
therefore weighted by ``exp(-1 / (u (1 - u)))``, u from 0 to 1 over the half, for which the error of a quasi-periodic
sequence falls faster than any power of T (weighted Birkhoff averages, Das et al. 2017, remembered). T doubles until two
estimates agree. At a double eigenvalue (optimistic s = 1/2, alternating s = 2) the norm has a factor t, and the error
is of order 1/T: the step sizes avoid these points.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.gans.game_methods import METHODS, Array, Game, Method
from benchmarks.gans.work import Part


def singular_values(condition: float, n: int) -> Array:
    """From 1 to ``1 / condition``."""
    return np.geomspace(1, 1 / condition, n)


def rotated(sigma: Array, seed: int) -> tuple[Array, Array, Array]:
    """Random C with singular values sigma, a random start, and a start in the mode of the smallest; both of norm 1."""
    random = np.random.default_rng(seed)
    n = len(sigma)
    left, right = (np.linalg.qr(random.normal(size=(n, n)))[0] for _ in range(2))
    start = random.normal(size=2 * n)
    slow = np.concatenate([left[:, -1], right[:, -1]])
    return left * sigma @ right.T, start / np.linalg.norm(start), slow / np.linalg.norm(slow)


def games(sigma: Array, seeds: int) -> tuple[Array, Array, Array]:
    """`rotated` for each seed: shapes (seeds, ...)."""
    C, start, slow = zip(*(rotated(sigma, seed) for seed in range(seeds)), strict=True)
    return np.stack(C), np.stack(start), np.stack(slow)


def window(length: int) -> Array:
    """Weights of the mean, with sum 1."""
    u = (np.arange(length) + 0.5) / length
    weights = np.exp(-1 / (u * (1 - u)))
    return weights / weights.sum()


def rate(method: Method, game: Game, x: Array, eta: Array, gamma: float, *, max_steps: int, tolerance: float) -> Array:
    """Mean of ``log |x_t+1| - log |x_t|`` over the last half of a trajectory; see the docstring of the module.

    Parameters
    ----------
    x : array of shape (..., 2 n)
        Starts.
    eta : array
        Step sizes, broadcast to (..., 1).
    max_steps, tolerance
        The half is doubled until no estimate changes by more than the tolerance, or until T is `max_steps`.
    """
    eta = np.asarray(eta)
    before, previous, half = x, None, 128
    while True:
        estimate = 0.0
        for weight in window(half):
            new = method.step(x, before, eta, gamma, game)
            # A step that reaches the equilibrium exactly has norm 0.
            norm = np.maximum(np.sqrt(np.einsum("...i,...i", new, new)), 1e-300)[..., None]
            before, x = x / norm, new / norm
            estimate = estimate + weight * np.log(norm[..., 0])
        if 2 * half >= max_steps or (previous is not None and np.abs(estimate - previous).max() < tolerance):
            return estimate
        previous, half = estimate, 2 * half


def exact_rate(method: Method, eta: Array, sigma: Array, gamma: float, a: float = 0.0) -> Array:
    """Logarithm of the largest modulus over the singular values (the last axis of sigma)."""
    return np.log(method.squared_modulus(eta, a + 1j * sigma, gamma).max(-1)) / 2


def spectral_rate(method: Method, game: Game, eta: Array, gamma: float) -> Array:
    """Logarithm of the spectral radius of the matrix that maps ``(x, x_before)`` to ``(x', x)``; v must be linear."""
    size = 2 * game.C.shape[-1]
    identity, zero = np.eye(size), np.zeros((size, size))
    by_column = Game(game.C[..., None, :, :], game.a)
    shape = (*np.broadcast_shapes(eta.shape[:-1], game.C.shape[:-2]), size, size)
    x, before = (np.broadcast_to(each, shape) for each in (identity, zero))
    images = [method.step(*states, eta[..., None], gamma, by_column) for states in ((x, before), (before, x))]
    below = np.concatenate([identity, zero], axis=-1)
    top = np.concatenate([np.swapaxes(image, -1, -2) for image in images], axis=-1)
    matrix = np.concatenate([top, np.broadcast_to(below, (*shape[:-1], 2 * size))], axis=-2)
    return np.log(np.abs(np.linalg.eigvals(matrix)).max(-1))


def steps_to(method: Method, game: Game, x: Array, eta: Array | float, gamma: float, accuracy: float) -> Array:
    """Number of steps after which ``|x|`` stays at most ``1 / accuracy`` of the start: x (..., 2 n) to counts (...)."""
    eps = np.linalg.norm(x, axis=-1) / accuracy
    before, done, count = x, 0, np.zeros(x.shape[:-1], dtype=int)
    while True:
        norm = np.linalg.norm(x, axis=-1)
        count[norm > eps] = done + 1
        if (norm < eps / 10).all():
            return count
        before, x = x, method.step(x, before, np.asarray(eta), gamma, game)
        done += 1


def contraction(part: Part, *, method: str, gamma: float, condition: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Measured and exact modulus over the step sizes."""
    played = METHODS[method]
    sigma = singular_values(condition, settings["n"])
    C, start, _ = games(sigma, settings["seeds"])
    eta = np.array(settings["etas"])[:, None, None]
    x = np.broadcast_to(start, (len(eta), *start.shape))
    found = rate(played, Game(C), x, eta, gamma, max_steps=settings["max_steps"], tolerance=1e-8)
    exact = np.exp(exact_rate(played, eta[..., 0], sigma, gamma))
    error = np.abs(np.exp(found) - exact[:, None])
    measured = np.take_along_axis(np.exp(found), error.argmax(1)[:, None], axis=1)[:, 0]
    spectral = np.exp(spectral_rate(played, Game(C[0]), eta[..., 0], gamma))
    return {
        "measured": measured.tolist(),
        "exact": exact.tolist(),
        "error": float(error.max()),
        "spectral_error": float(np.abs(spectral - exact).max()),
    }


def limit(part: Part, *, method: str, gamma: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Smallest diverging step size at condition 3, in units of 1 / sigma_max.

    The interval [0, 3.9] is divided into 8, repeatedly.
    """
    played = METHODS[method]
    C, start, _ = rotated(singular_values(3, settings["n"]), 0)
    low, high, found = 0.0, 3.9, None
    while high - low > settings["threshold"] / 4:
        etas = np.linspace(low, high, 9)[1:]
        rates = rate(
            played,
            Game(C),
            np.broadcast_to(start, (len(etas), *start.shape)),
            etas[:, None],
            gamma,
            max_steps=settings["max_steps_limit"],
            tolerance=settings["threshold"] / 10,
        )
        diverging = rates > settings["threshold"]
        if not diverging.any():
            break
        first = int(np.argmax(diverging))
        low, high = etas[first] - (etas[1] - etas[0]), etas[first]
        found = float(high)
    exact = float(played.limit(1.0, gamma))
    return {"measured": found, "exact": exact if np.isfinite(exact) else None}


def steps(part: Part, *, method: str, gamma: float, condition: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Number of steps to the accuracy on the bilinear game."""
    played, accuracy = METHODS[method], settings["accuracy"]
    sigma = singular_values(condition, settings["n"])
    C, start, slow = games(sigma, settings["seeds"])
    eta = played.bound.eta(1.0, gamma) if played.bound else played.eta(1.0, gamma)
    counts = steps_to(played, Game(np.concatenate([C, C])), np.concatenate([slow, start]), eta, gamma, accuracy)
    worst, random = counts.reshape(2, -1)
    bound = played.bound.steps(1 / condition**2, 1.0, gamma, accuracy) if played.bound else None
    return {
        "eta": float(eta),
        "worst": int(worst.max()),
        "random": [int(random.min()), int(random.max())],
        "exact": float(np.log(accuracy) / -exact_rate(played, np.array(eta), sigma, gamma)),
        "bound": None if bound is None else int(np.ceil(bound)),
    }


def slow_down(part: Part, *, method: str, ratio: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Best step size at a = 1 and one ``sigma = ratio``, searched on trajectories, and the steps with it."""
    played, sigma = METHODS[method], np.full(settings["n"], ratio)
    C, start, _ = games(sigma, settings["seeds"])
    game = Game(C, a=1.0)
    low, high = 0.0, 2 / np.hypot(1, ratio)
    for _ in range(7):
        etas = np.linspace(low, high, 34)[1:-1]
        x = np.broadcast_to(start[0], (len(etas), *start[0].shape))
        found = rate(played, Game(C[0], a=1.0), x, etas[:, None], 0.0, max_steps=256, tolerance=0)
        best = int(np.argmin(found))
        low, high = etas[best] - (etas[1] - etas[0]), etas[best] + (etas[1] - etas[0])
    eta = etas[best]
    return {
        "eta": float(eta),
        "squared": float(np.exp(2 * found[best])),
        "steps": int(steps_to(played, game, start, eta, 0.0, settings["accuracy"]).max()),
    }


def smooth(part: Part, *, method: str, gamma: float, settings: dict[str, Any]) -> dict[str, Any]:
    """Rate of a trajectory of the game with log cosh, a = 0.3, sigma = 1 and eta = 0.05, from |x| = 1e-4 to 1e-11."""
    played, eta, a = METHODS[method], np.array(0.05), 0.3
    C, start, _ = games(np.ones(settings["n"]), settings["seeds"])
    game = Game(C, a=a, log_cosh=True)
    before = x = 3 * start
    norms = [np.linalg.norm(x, axis=-1)]
    while norms[-1].max() > 1e-11:
        before, x = x, played.step(x, before, eta[..., None], gamma, game)
        norms.append(np.linalg.norm(x, axis=-1))
    logs = np.log(norms)
    logs = logs[np.flatnonzero(logs.max(1) > np.log(1e-4))[-1] + 1 :]
    found = window(len(logs) - 1) @ np.diff(logs, axis=0)
    exact = float(exact_rate(played, eta, np.ones(1), gamma, a))
    worst = int(np.argmax(np.abs(found - exact)))
    return {"measured": float(found[worst]), "exact": exact, "steps": len(norms) - 1}
