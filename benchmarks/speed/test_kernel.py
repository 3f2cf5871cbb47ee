"""From features to kernel distances: of all rows, and of random subsets."""

from __future__ import annotations

import numpy as np
import pytest

import fidfast
from benchmarks import peers


@pytest.fixture(scope="module")
def expected_kid(sets):
    """Distance of all rows by the plain formula in float64, over blocks of rows of the kernel matrix."""
    sums = {}
    for one, other in ((0, 0), (1, 1), (0, 1)):
        a, b = sets[one].astype(np.float64), sets[other].astype(np.float64)
        total = sum(float(np.sum((rows @ b.T / b.shape[1] + 1) ** 3)) for rows in np.array_split(a, 10))
        diagonal = float(np.sum((np.sum(a * a, axis=1) / a.shape[1] + 1) ** 3)) if one == other else 0.0
        sums[one, other] = (total - diagonal) / (len(a) * (len(b) - (one == other)))
    return sums[0, 0] + sums[1, 1] - 2 * sums[0, 1]


@pytest.mark.benchmark(group="kernel distance of all rows")
@pytest.mark.parametrize("tool", ["fidfast", *peers.KIDS])
def test_all_rows(benchmark, tool, sets, expected_kid):
    call = peers.KIDS.get(tool, fidfast.kid)
    # The other tools round kernels of about 1 to float32, with an error of 6e-8; relative to their difference, which is
    # at least 1e-4, that is 6e-4. The error of fidfast is below 1e-3 standard errors, and mostly below 1e-5.
    value = float(call(*sets))
    tolerance = {"rel": 1e-3} if tool != "fidfast" else {"rel": 1e-9, "abs": 1e-3 * fidfast.kid(*sets).stderr}
    assert value == pytest.approx(expected_kid, **tolerance)
    benchmark.extra_info["relative_error"] = abs(value / expected_kid - 1)
    benchmark.pedantic(call, args=sets, rounds=5 if tool == "fidfast" else 2)


@pytest.mark.benchmark(group="kernel distance of 100 subsets")
@pytest.mark.parametrize("tool", ["fidfast like torch-fidelity", "fidfast like torchmetrics", *peers.KIDS_OF_SUBSETS])
def test_subsets(benchmark, tool, sets):
    peer = tool.removeprefix("fidfast like ")
    size = min(1000, *map(len, sets))

    def like_peer(samples, reference):
        result = fidfast.kid_subsets(samples, reference, like=peer, subset_size=size)
        return result.mean, result.std

    call = peers.KIDS_OF_SUBSETS[peer] if tool == peer else like_peer
    if tool != peer:
        assert call(*sets) == pytest.approx(peers.KIDS_OF_SUBSETS[peer](*sets), rel=1e-3)
    benchmark.pedantic(call, args=sets, rounds=2)
