"""The tools of the experiment ``streaming``, and their memory.

A tool takes the statistics of the reference, and returns a function from batches of features to the distance.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import fidfast.torch

TOOLS = ("fidfast", "torchmetrics", "pytorch-fid", "fidfast with error bar")
_SCRIPT = Path(__file__).with_name("streaming_memory.py")


def _fidfast(reference: fidfast.GaussianStats) -> Callable[[list[torch.Tensor]], float]:
    metric = fidfast.torch.FrechetDistance(None, reference)

    def distance(batches: list[torch.Tensor]) -> float:
        metric.reset()
        for batch in batches:
            metric.update_features(batch)
        return metric.compute()

    return distance


def _fidfast_with_error_bar(reference: fidfast.GaussianStats) -> Callable[[list[torch.Tensor]], float]:
    metric = fidfast.torch.FrechetDistance(None, reference, blocks=20)

    def distance(batches: list[torch.Tensor]) -> float:
        metric.reset()
        for batch in batches:
            metric.update_features(batch)
        return metric.estimate().value

    return distance


def _torchmetrics(reference: fidfast.GaussianStats) -> Callable[[list[torch.Tensor]], float]:
    from benchmarks import peers

    metric = peers.torchmetrics_moments(reference.dim)
    metric.reset_real_features = False
    n, mu, sigma = reference.num_samples, torch.tensor(reference.mu), torch.tensor(reference.sigma)
    metric.real_features_sum, metric.real_features_num_samples = n * mu, torch.tensor(n)
    metric.real_features_cov_sum = (n - 1) * sigma + n * torch.outer(mu, mu)

    def distance(batches: list[torch.Tensor]) -> float:
        metric.reset()
        for batch in batches:
            metric.update(batch, real=False)
        return float(metric.compute())

    return distance


def _pytorch_fid(reference: fidfast.GaussianStats) -> Callable[[list[torch.Tensor]], float]:
    from benchmarks import peers

    mu, sigma = np.array(reference.mu), np.array(reference.sigma)

    def distance(batches: list[torch.Tensor]) -> float:
        rows = np.empty((sum(map(len, batches)), len(mu)))
        start = 0
        for batch in batches:
            rows[start : start + len(batch)] = batch.numpy()
            start += len(batch)
        return peers.pytorch_fid_distance(rows.mean(axis=0), np.cov(rows, rowvar=False), mu, sigma)

    return distance


TOOL = dict(zip(TOOLS, (_fidfast, _torchmetrics, _pytorch_fid, _fidfast_with_error_bar), strict=True))


def peak_memory(tool: str, features: NDArray[np.float32], reference: fidfast.GaussianStats) -> float:
    """Peak memory of a tool in a separate process, in bytes above that before the first batch."""
    with tempfile.TemporaryDirectory() as folder:
        features.tofile(Path(folder) / "features")
        reference.save(Path(folder) / "reference.npz")
        command = [sys.executable, str(_SCRIPT), tool, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"measuring the memory of {tool} failed with status {done.returncode}: {done.stderr}")
    before, peak = map(int, done.stdout.split())
    return float(peak - before)
