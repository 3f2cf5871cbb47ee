"""Time of a training step: the distance of 64 rows to a reference, and its gradient in the rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import fidfast
import fidfast.torch

ROWS = 64

Loss = Callable[[torch.Tensor], torch.Tensor]


def through_eigvals(mu1: torch.Tensor, sigma1: torch.Tensor) -> Loss:
    """The common implementation: covariance of the batch, eigenvalues of the product, autograd."""

    def loss(features: torch.Tensor) -> torch.Tensor:
        rows = features.double()
        d, sigma2 = rows.mean(0) - mu1, torch.cov(rows.T)
        root = torch.linalg.eigvals(sigma1 @ sigma2).sqrt().real.sum()
        return d @ d + sigma1.trace() + sigma2.trace() - 2 * root

    return loss


def through_small_matrix(mu1: torch.Tensor, sigma1: torch.Tensor) -> Loss:
    """Autograd of the eigenvalues of the symmetric matrix ``B^T sigma1 B`` (Mathiasen & Hvilshøj 2020).

    The eigenvalue of the mean's direction is zero, where the root has no derivative, so only the other n - 1 are used.
    """

    def loss(features: torch.Tensor) -> torch.Tensor:
        rows = features.double()
        centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
        d = rows.mean(0) - mu1
        root = torch.linalg.eigvalsh(centred @ sigma1 @ centred.T)[1:].sqrt().sum()
        return d @ d + sigma1.trace() + centred.square().sum() - 2 * root

    return loss


TOOLS = {"fidfast": None, "eigvals and autograd": through_eigvals, "small matrix and autograd": through_small_matrix}

#: Relative error of the gradient. With eigvals, eigenvalues that should be zero are not: 1.4e-5 at dim 2048.
TOLERANCES = {"fidfast": 1e-6, "eigvals and autograd": 1e-3, "small matrix and autograd": 1e-6}


def step(loss: Loss, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """The value, and the gradient in the rows."""
    features = torch.from_numpy(rows).requires_grad_()
    value = loss(features)
    value.backward()
    return value.item(), features.grad.double().numpy()  # type: ignore[union-attr]


@pytest.mark.benchmark(group="loss at batch 64")
@pytest.mark.parametrize("tool", TOOLS)
def test_a_step_of_training(benchmark, tool, features, arrays):  # type: ignore[no-untyped-def]
    rows = features[1][:ROWS]
    make = TOOLS[tool]
    if make is None:
        loss: Loss = fidfast.torch.FrechetLoss(fidfast.GaussianStats(*arrays[:2]))
    else:
        loss = make(*map(torch.from_numpy, arrays[:2]))
    value, gradient = benchmark.pedantic(
        step, args=(loss, rows), rounds=2 if tool == "eigvals and autograd" else 7, warmup_rounds=1
    )
    expected = expected_step(arrays, rows)
    assert value == pytest.approx(expected[0], rel=1e-6)
    assert np.linalg.norm(gradient - expected[1]) <= TOLERANCES[tool] * np.linalg.norm(expected[1])


def expected_step(arrays: tuple[np.ndarray, ...], rows: np.ndarray) -> tuple[float, np.ndarray]:
    """The formula in NumPy: T B = F U V^T with the factor F of sigma1 and the singular vectors of F^T B."""
    mu1, sigma1 = arrays[:2]
    n = len(rows)
    mean = rows.mean(0, np.float64)
    centred = (rows - mean) / np.sqrt(n - 1)
    values, vectors = np.linalg.eigh(sigma1)
    factor = vectors * np.sqrt(np.maximum(values, 0))
    u, s, vt = np.linalg.svd(factor.T @ centred.T, full_matrices=False)
    mapped = factor @ u[:, :-1] @ vt[:-1]  # without the direction of the mean, the last one
    value = np.sum((mean - mu1) ** 2) + np.trace(sigma1) + np.sum(centred**2) - 2 * s.sum()
    return float(value), 2 / n * (mean - mu1) + 2 / np.sqrt(n - 1) * (centred - mapped.T)
