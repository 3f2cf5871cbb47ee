"""References, batches, running statistics and gradients for the tests of the loss."""

import numpy as np
import reference
import torch

import fidfast.torch as ft

DIM = 7
EPS = np.finfo(float).eps

#: Kinds of references: regular, with fewer rows than columns, with dead units, and with all variance in a subspace.
REFERENCES = ("full", "few rows", "dead units", "low rank")


def reference_rows(kind, rng, dim=DIM):
    rows = rng.standard_normal((4 if kind == "few rows" else 60, dim)) @ rng.standard_normal((dim, dim)) + 0.5
    if kind == "dead units":
        rows[:, [1, 4]] = 0
    if kind == "low rank":
        rows = rows @ reference.rotation(dim, rng)[:, : dim // 2] @ rng.standard_normal((dim // 2, dim))
    return rows


def batch_of(n, rng, dim=DIM):
    return rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) - 0.2


def gradient_of(loss, rows):
    features = torch.as_tensor(rows).detach().clone().requires_grad_()
    loss(features).backward()
    return features.grad


def running_stats_of(kind):
    """Running statistics, and a function from the sizes of all batches to the weights of their rows."""
    if kind == "short queue":  # shorter than DIM
        return ft.FeatureQueue(DIM, 6, dtype=torch.float64), lambda sizes: np.arange(sum(sizes)) >= sum(sizes) - 6
    if kind == "long queue":
        return ft.FeatureQueue(DIM, 17, dtype=torch.float64), lambda sizes: np.arange(sum(sizes)) >= sum(sizes) - 17
    decay = {"decay 0.8": 0.8, "decay 1": 1.0, "decay 0": 0.0}[kind]
    return ft.MovingMoments(DIM, decay), lambda sizes: np.concatenate(
        [np.full(size, decay ** (len(sizes) - 1 - i)) for i, size in enumerate(sizes)]
    )


RUNNING_STATS = ("short queue", "long queue", "decay 0.8", "decay 1", "decay 0")
