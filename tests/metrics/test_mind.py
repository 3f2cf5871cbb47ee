"""The Monge Inception Distance: against its definition and laws."""

import math
import re

import numpy as np
import pytest
import torch

import fidfast
from fidfast import mind


def definition(samples, reference, directions):
    """Berthet et al. (2026), for sets of equal size."""
    one, two = (np.sort(rows.astype(float) @ directions.T, axis=0) for rows in (samples, reference))
    return 3 * samples.shape[1] * np.mean((one - two) ** 2)


def unit_vectors(number, dim, seed):
    directions = np.random.default_rng(seed).standard_normal((number, dim))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.fixture
def pair(rng):
    return rng.standard_normal((80, 6)), rng.standard_normal((80, 6)) * 1.5 + 0.3


# Sums of 80 * 50 squares in float64: a relative error of about 1e-14.
ROUNDING = 1e-12


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_definition(pair, dtype):
    one, two = (rows.astype(dtype) for rows in pair)
    found = mind(one, two, num_projections=50, seed=3)
    assert found.value == pytest.approx(definition(one, two, unit_vectors(50, 6, 3)), rel=ROUNDING)
    assert (found.num_samples, found.num_projections, found.seed) == ((80, 80), 50, 3)


def test_projection_error_is_that_of_the_mean_over_the_directions(pair):
    each = [definition(*pair, direction[None]) for direction in unit_vectors(50, 6, 0)]
    expected = np.std(each, ddof=1) / math.sqrt(50)
    assert mind(*pair, num_projections=50).projection_error == pytest.approx(expected, rel=ROUNDING)


def test_shift(pair):
    """The mean of 3 dim (u.t)^2 over directions u is 3 |t|^2."""
    shift = np.arange(6.0)
    found = mind(pair[0], pair[0] + shift)
    # Five standard errors; exceeded with a probability of 1e-6.
    assert abs(found.value - 3 * shift @ shift) < 5 * found.projection_error


@pytest.mark.parametrize(("n", "m"), [(12, 8), (8, 12), (7, 5), (1, 80), (40, 80)])
def test_sets_of_different_size(pair, n, m):
    """Rows that repeat equally often are the same distribution, so both sets can be repeated to equal numbers."""
    one, two = pair[0][:n], pair[1][:m]
    common = math.lcm(n, m)
    expected = mind(np.repeat(one, common // n, axis=0), np.repeat(two, common // m, axis=0)).value
    assert mind(one, two).value == pytest.approx(expected, rel=ROUNDING)


def test_order_of_rows_and_of_arguments(pair, rng):
    one, two = pair
    value = mind(one, two).value
    # A product may be rounded differently in another position.
    assert mind(rng.permutation(one), two).value == pytest.approx(value, rel=ROUNDING)
    assert mind(two, one).value == value
    assert mind(one, one).value == 0
    assert mind(one, two, seed=1).value != value


def test_blocks_of_directions_change_nothing(pair, monkeypatch):
    value = mind(*pair).value
    monkeypatch.setattr("fidfast._metrics.sliced._NUMBERS_AT_ONCE", 160 * 7)
    assert mind(*pair).value == pytest.approx(value, rel=ROUNDING)


@pytest.mark.parametrize("power", [-400, -1, 1, 400])
def test_scale(pair, power):
    one, two = (np.ldexp(rows, power) for rows in pair)
    assert mind(one, two).value == math.ldexp(mind(*pair).value, 2 * power)


def test_overflow(pair):
    with pytest.raises(ValueError, match="the squares of the features leave the range of float64"):
        mind(pair[0] * 2.0**600, pair[1])


def test_files_and_tensors(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 30)
    np.save(tmp_path / "one.npy", pair[0])
    value = mind(*pair).value
    assert mind(tmp_path / "one.npy", torch.from_numpy(pair[1])).value == pytest.approx(value, rel=ROUNDING)


@pytest.mark.parametrize(("n", "m"), [(80, 80), (80, 50), (50, 80)])
def test_like_torch_fidelity(pair, n, m):
    """Its rule: rows of the larger side by randperm, then float32 directions, from one generator."""
    rows = [torch.from_numpy(side[:size]).float() for side, size in zip(pair, (n, m), strict=True)]
    random = torch.Generator().manual_seed(2020)
    size = min(n, m)
    rows = [side if len(side) == size else side[torch.randperm(len(side), generator=random)[:size]] for side in rows]
    directions = torch.randn(40, 6, generator=random)
    directions /= directions.norm(dim=1, keepdim=True)
    one, two = (side @ directions.T for side in rows)
    expected = 18 * float(((one.sort(0).values - two.sort(0).values) ** 2).mean())
    found = mind(pair[0][:n], pair[1][:m], num_projections=40, seed=2020, like="torch-fidelity")
    # Rows in float32 change each projection by 1e-7 of its size, and the mean square by a few times that.
    assert found.value == pytest.approx(expected, rel=2e-6)
    assert found.num_samples == (size, size)


def test_shared_rows_are_reported(pair):
    found = mind(pair[0], np.concatenate([pair[0][:3], pair[1]]))
    assert found.shared_rows == 3
    assert "3 of the 80 rows of samples are also in reference, so the distance is too low" in str(found)
    assert mind(*pair).caution is None


ROWS = np.random.default_rng(1).standard_normal((9, 4))
CASES = {
    "num_projections must be at least 2, got 1": lambda: mind(ROWS, ROWS, num_projections=1),
    "seed must be at least 0, got -1": lambda: mind(ROWS, ROWS, seed=-1),
    "like must be None or 'torch-fidelity', got 'piq'": lambda: mind(ROWS, ROWS, like="piq"),
    "samples has dim 3, but reference has dim 4": lambda: mind(ROWS[:, :3], ROWS),
    "reference: mind needs at least 1 row, got 0": lambda: mind(ROWS, ROWS[:0]),
    "reference: features hold NaN or infinity; the first such row is 0": lambda: mind(ROWS, ROWS * np.nan),
    "samples: mind needs the (n, dim) features themselves, got Moments": lambda: mind(
        fidfast.Moments.from_features(ROWS), ROWS
    ),
}


@pytest.mark.parametrize("message", CASES)
def test_errors(message):
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(message)):
        CASES[message]()
