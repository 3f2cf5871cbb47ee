"""What the host makes of the same rows."""

import numpy as np

from fidfast import Moments

__all__ = ["assert_same", "moments_on_host"]


def moments_on_host(*batches, dim=4):
    moments = Moments(dim, "float64")
    for batch in batches:
        moments.update(batch)
    return moments


def assert_same(moments, expected):
    assert moments.num_samples == expected.num_samples
    ours, theirs = moments.stats(), expected.stats()
    # Sums of n products in another order: eps sqrt(n) of the variances, which are 1 here.
    np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.mu, theirs.mu, rtol=0, atol=1e-12)
