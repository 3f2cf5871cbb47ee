"""The distance of covariances and of features. Each case checks its result before it is timed."""

import pytest

import fidfast
from benchmarks import peers
from fidfast import GaussianStats


def uncached(mu1, sigma1, mu2, sigma2):
    return fidfast.frechet_distance(GaussianStats(mu1, sigma1), GaussianStats(mu2, sigma2))


@pytest.mark.benchmark(group="distance")
@pytest.mark.parametrize("tool", ["fidfast", *peers.DISTANCES])
def test_distance_of_two_covariances(benchmark, tool, arrays, expected):
    call = peers.DISTANCES.get(tool, uncached)
    assert call(*arrays) == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, args=arrays, rounds=2 if tool == "pytorch-fid" else 7)


@pytest.mark.benchmark(group="distance, cached factor")
def test_distance_with_cached_factor(benchmark, arrays, expected):
    mu1, sigma1, mu2, sigma2 = arrays
    reference = GaussianStats(mu2, sigma2)

    def call():
        return fidfast.frechet_distance(GaussianStats(mu1, sigma1), reference)

    assert call() == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, rounds=7)


@pytest.mark.benchmark(group="distance from features")
@pytest.mark.parametrize("tool", ["fidfast", "pytorch-fid"])
def test_distance_from_features(benchmark, tool, features, expected):
    call = {"fidfast": fidfast.fid, "pytorch-fid": peers.pytorch_fid_of_features}[tool]
    assert call(*features) == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, args=features, rounds=2 if tool == "pytorch-fid" else 5)
