"""Where the memorization-informed distance is cut to 0, in the paper's formula and in torchmetrics."""

import numpy as np
import pytest

import fidfast
from fidfast import mifid

ROWS = np.random.default_rng(0).standard_normal((300, 8))


@pytest.mark.parametrize("mean_over", ["samples", "reference"])
def test_equal_sets_in_another_order_give_0(mean_over):
    assert mifid(ROWS, ROWS[::-1].copy(), mean_over=mean_over) == 0
    assert mifid(ROWS, np.tile(ROWS, (1, 1)), mean_over=mean_over) == 0


def test_only_torchmetrics_cuts_small_distances_above_their_rounding():
    near = ROWS + 1e-5 * np.random.default_rng(1).standard_normal(ROWS.shape)
    terms = fidfast.frechet_terms(near, ROWS)
    assert terms.rounding < terms.distance < 1e-8
    assert mifid(near, ROWS, mean_over="reference") == 0
    # Each sample is a copy within 1e-5: the mean of 1 - cos is about half of its square.
    assert mifid(near, ROWS) > terms.distance / 1e-8
