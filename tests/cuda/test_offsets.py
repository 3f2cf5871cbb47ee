"""Digits that only streams of several blocks, far from the origin, can lose; on the host and on a device."""

import numpy as np
import pytest

from fidfast import Moments

OFFSET = 2.0**30


@pytest.mark.parametrize("n", [2048, 3500])
def test_blocks_far_from_the_origin_keep_the_digits_of_their_mean(rng, device, n):
    """The mean has twice the digits of a float64: with one of them, it would be off by 1e-7 after the first block."""
    rows = np.round(rng.standard_normal((n, 3)) * 2**20) / 2**20  # so that rows far away are exact too
    rows += np.linspace(0, 4, n).round()[:, None]  # the means of blocks differ
    moments = Moments(3, "float64", device=device.name)
    for batch in np.array_split(rows + OFFSET, 5):
        moments.update(device.array(batch))
    found, expected = moments.stats().sigma, np.cov(rows, rowvar=False)
    # Products of differences that are exact: eps sqrt(1024) each, as if there were no offset.
    assert np.abs(found - expected).max() < 1e-12


def test_merged_streams_far_from_the_origin_keep_the_digits_of_their_means(rng, device):
    rows = np.round(rng.standard_normal((4 * 1030, 3)) * 2**20) / 2**20 + np.repeat(np.arange(4.0), 1030)[:, None]
    whole = Moments(3, "float64", device=device.name)
    for part in np.split(rows + OFFSET, 4):
        moments = Moments(3, "float64", device=device.name)
        moments.update(device.array(part))
        whole.merge(moments)
    assert np.abs(whole.stats().sigma - np.cov(rows, rowvar=False)).max() < 1e-12
