"""Precision of moments of several blocks of rows far from the origin, on every device."""

import numpy as np
import pytest

from fidfast import Moments

OFFSET = 2.0**30


@pytest.mark.parametrize("n", [2048, 3500])
def test_blocks_of_rows_far_from_the_origin(rng, device, n):
    """The mean has twice the precision of float64. In float64 its error would be 1e-7 after the first block."""
    rows = np.round(rng.standard_normal((n, 3)) * 2**20) / 2**20  # exact after the offset is added
    rows += np.linspace(0, 4, n).round()[:, None]  # the means of blocks differ
    moments = Moments(3, precision="float64", device=device.name)
    for batch in np.array_split(rows + OFFSET, 5):
        moments.update(device.array(batch))
    found, expected = moments.stats().sigma, np.cov(rows, rowvar=False)
    # Centred rows are exact, so errors are eps sqrt(1024), as without the offset.
    assert np.abs(found - expected).max() < 1e-12


def test_merged_moments_of_rows_far_from_the_origin(rng, device):
    rows = np.round(rng.standard_normal((4 * 1030, 3)) * 2**20) / 2**20 + np.repeat(np.arange(4.0), 1030)[:, None]
    merged = Moments(3, precision="float64", device=device.name)
    for part in np.split(rows + OFFSET, 4):
        moments = Moments(3, precision="float64", device=device.name)
        moments.update(device.array(part))
        merged.merge(moments)
    assert np.abs(merged.stats().sigma - np.cov(rows, rowvar=False)).max() < 1e-12
