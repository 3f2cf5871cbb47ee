"""Time of updates with small batches."""

import numpy as np
import pytest
import torch

import fidfast
from benchmarks import peers

ROWS = 100  # of each batch
BATCHES = 200


@pytest.mark.benchmark(group="200 updates with 100 rows")
@pytest.mark.parametrize("tool", ["fidfast", "torchmetrics"])
def test_updates(benchmark, tool, features, dim):
    batches = [features[0][i * ROWS : (i + 1) * ROWS] for i in range(len(features[0]) // ROWS)] * 2
    batches = batches[:BATCHES]
    sigma = np.cov(np.concatenate(batches), rowvar=False)
    if tool == "fidfast":
        moments = fidfast.Moments(dim)

        def updates():
            moments.reset()
            for batch in batches:
                moments.update(batch)

        updates()
        result = moments.stats().sigma
    else:
        metric = peers.torchmetrics_moments(dim)
        tensors = [torch.from_numpy(batch) for batch in batches]

        def updates():
            metric.reset()
            for batch in tensors:
                metric.update(batch, real=True)

        updates()
        n = int(metric.real_features_num_samples)
        mean = metric.real_features_sum / n
        result = ((metric.real_features_cov_sum - n * torch.outer(mean, mean)) / (n - 1)).numpy()
    np.testing.assert_allclose(result, sigma, atol=3e-6 * sigma.diagonal().max())
    benchmark.pedantic(updates, rounds=5)
