"""Measures the distance of generated images to the training images during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fidfast
import fidfast.torch
from benchmarks.gans.training import Gan


class Measurement:
    """Fréchet distance with its error bar, from streamed features; passed to `training.train`.

    Parameters
    ----------
    extractor : fidfast.torch.Extractor
    reference : fidfast.GaussianStats
        Statistics of the features of the training images, taken as exact.
    num_samples : int
        Images that are generated for each measurement.
    """

    def __init__(
        self, extractor: fidfast.torch.Extractor, reference: fidfast.GaussianStats, *, num_samples: int
    ) -> None:
        self._metric = fidfast.torch.FrechetDistance(extractor, reference, blocks=20)
        self._num_samples = num_samples

    def __call__(self, gan: Gan) -> dict[str, float]:
        """``value``, ``stderr`` and ``bias`` of the distance, from the same latent numbers in every call."""
        self._metric.reset()
        self._metric.update_samples(lambda n: to_pixels(gan.sample(n)), self._num_samples, batch_size=250)
        found = self._metric.estimate()
        return {"value": found.value, "stderr": found.stderr, "bias": found.bias}


def to_pixels(samples: torch.Tensor) -> torch.Tensor:
    """uint8 images, from samples from -1 to 1."""
    return ((samples + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def distance(point: Mapping[str, Any]) -> float:
    """The distance of a measurement, without the bias of finite samples."""
    return float(point["value"] - point["bias"])


def distances(curves: Sequence[Sequence[Mapping[str, Any]]]) -> NDArray[np.float64]:
    """(runs, measurements) distances."""
    return np.array([list(map(distance, curve)) for curve in curves])
