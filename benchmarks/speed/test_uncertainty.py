"""The error bar, compared with one distance, and the extrapolation, compared with a direct computation."""

import numpy as np
import pytest

import fidfast
from benchmarks import peers

#: Rows of the smallest part of the extrapolation; the mean part has 7,500 of the 10,000 rows.
MIN_SAMPLES = 5000


@pytest.fixture(scope="module")
def reference(features):
    moments = fidfast.Moments(features[1].shape[1])
    moments.update(features[1])
    return moments.stats()


@pytest.mark.benchmark(group="estimate")
@pytest.mark.parametrize("tool", ["fidfast", "fidfast.fid"])
def test_estimate_of_features(benchmark, tool, features, expected):
    """Both sides are samples; `fid` computes the distance alone."""
    found = fidfast.estimate(*features)
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert 0 < found.bias < found.value
    assert np.isfinite(found.stderr)
    call = {"fidfast": fidfast.estimate, "fidfast.fid": fidfast.fid}[tool]
    benchmark.pedantic(call, args=features, rounds=3)


@pytest.mark.benchmark(group="estimate from 20 blocks")
def test_estimate_of_blocks(benchmark, features, reference, expected):
    """20 distances, each without a block."""
    moments = fidfast.Moments(features[0].shape[1], blocks=20)
    moments.update(features[0])
    assert fidfast.estimate(moments, reference).value == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(fidfast.estimate, args=(moments, reference), rounds=1)


@pytest.mark.benchmark(group="extrapolation over 15 sizes")
@pytest.mark.parametrize("tool", ["fidfast", "np.cov and sqrtm"])
def test_extrapolation(benchmark, tool, features, reference, expected):
    """np.cov and sqrtm for each of 15 sizes; only one of mean size is timed."""
    if tool == "fidfast":

        def call():
            return fidfast.fid_infinity(features[0], reference, min_samples=MIN_SAMPLES).distances[-1]

        assert call() == pytest.approx(expected, rel=1e-6)
    else:
        order = np.random.default_rng(0).permutation(len(features[0]))[: (MIN_SAMPLES + len(features[0])) // 2]
        mu, sigma = reference.mu, reference.sigma

        def call():
            part = features[0][order]
            return peers.pytorch_fid_distance(np.mean(part, axis=0), np.cov(part, rowvar=False), mu, sigma)

        assert call() == pytest.approx(fidfast.fid(features[0][order], reference), rel=1e-6)
    benchmark.pedantic(call, rounds=2)
