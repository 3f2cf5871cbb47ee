"""Sums over replicates, computed in parts, give the numbers of all replicates."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fidfast._metrics.replicates import Replicates, RowSums


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_sums_of_parts(sizes, seed):
    rng = np.random.default_rng(seed)
    n = sum(sizes) + 1
    sizes = [*sizes, 1]
    complete = (1.5, 1.25)
    distance = 1.5 + rng.exponential(size=n) * 1e-3
    corrected = 1.25 + rng.exponential(size=n) * 1e-3
    expected = Replicates(distance, corrected, complete, np.ones(n), n)
    cuts = np.cumsum(sizes)[:-1]
    parts = [
        RowSums.of(one, two, complete)
        for one, two in zip(np.split(distance, cuts), np.split(corrected, cuts), strict=True)
    ]
    found = functools.reduce(RowSums.merged, parts)
    assert found.num_samples == n
    assert found.largest_part == expected.largest_part
    # Differences of about 1e-3 between numbers of about 1 have 13 digits, their powers about 12.
    for name in ("bias_of_distance", "bias_of_corrected", "variance", "relative_variance_of_variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-10), name
