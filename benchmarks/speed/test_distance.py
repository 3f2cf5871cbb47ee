"""From covariances, and from features, to the distance. Every case shows its answer first."""

import pytest

import fidfast
from benchmarks import peers
from fidfast import GaussianStats


def fresh(mu1, sigma1, mu2, sigma2):
    return fidfast.frechet_distance(GaussianStats(mu1, sigma1), GaussianStats(mu2, sigma2))


@pytest.mark.benchmark(group="distance")
@pytest.mark.parametrize("tool", ["fidfast", *peers.DISTANCES])
def test_distance_of_two_covariances(benchmark, tool, arrays, expected):
    call = peers.DISTANCES.get(tool, fresh)
    assert call(*arrays) == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, args=arrays, rounds=2 if tool == "pytorch-fid" else 7)


@pytest.mark.benchmark(group="distance, reference kept")
def test_distance_with_the_reference_kept(benchmark, arrays, expected):
    mu1, sigma1, mu2, sigma2 = arrays
    reference = GaussianStats(mu1, sigma1)

    def call():
        return fidfast.frechet_distance(reference, GaussianStats(mu2, sigma2))

    assert call() == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, rounds=7)


@pytest.mark.benchmark(group="features to distance")
@pytest.mark.parametrize("tool", ["fidfast", "pytorch-fid"])
def test_features_to_distance(benchmark, tool, features, expected):
    call = {"fidfast": fidfast.fid, "pytorch-fid": peers.pytorch_fid_of_features}[tool]
    assert call(*features) == pytest.approx(expected, rel=1e-6)
    benchmark.pedantic(call, args=features, rounds=2 if tool == "pytorch-fid" else 5)
