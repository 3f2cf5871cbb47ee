"""What kernel distances reject, and in which words."""

import numpy as np
import pytest

import fidfast
from fidfast import cmmd, kid, kid_subsets

ROWS = np.random.default_rng(1).standard_normal((20, 5))
POISONED = ROWS.copy()
POISONED[7, 3] = np.inf

MOMENTS = fidfast.Moments(5)
MOMENTS.update(ROWS)

CASES = {
    "features_a has dim 3, but features_b has dim 5": lambda: kid(ROWS[:, :3], ROWS),
    "features_a: a kernel distance needs at least 2 samples, got 1": lambda: kid(ROWS[:1], ROWS),
    "features_b: a kernel distance needs at least 1 sample, got 0": lambda: cmmd(ROWS, ROWS[:0]),
    "features_b: features hold NaN or infinity; the first such row is 7": lambda: kid(ROWS, POISONED),
    "features_b: features must be 2-D (n, dim), got shape (5,)": lambda: kid(ROWS, ROWS[0]),
    "features_a: features must be an array or tensor (n, dim), got list": lambda: kid([[1.0]], ROWS),
    "features_a: features must be float16, bfloat16, float32 or float64, got int64": lambda: cmmd(
        np.ones((4, 5), dtype=np.int64), ROWS
    ),
    "degree must be at least 1, got 0": lambda: kid(ROWS, ROWS, degree=0),
    "gamma must be positive, got -1.000000": lambda: kid(ROWS, ROWS, gamma=-1.0),
    "coef0 must not be negative, got -0.500000": lambda: kid(ROWS, ROWS, coef0=-0.5),
    "sigma must be positive, got 0.000000": lambda: cmmd(ROWS, ROWS, sigma=0.0),
    "precision must be 'float32' or 'float64', got 'half'": lambda: kid(ROWS, ROWS, precision="half"),
    "subset_size is 1000, but features_a has 20 rows": lambda: kid_subsets(ROWS, ROWS),
    "subset_size is 30, but features_b has 20 rows": lambda: kid_subsets(np.tile(ROWS, (2, 1)), ROWS, subset_size=30),
    "subset_size must be at least 2, got 1": lambda: kid_subsets(ROWS, ROWS, subset_size=1),
    "subsets must be at least 1, got 0": lambda: kid_subsets(ROWS, ROWS, subsets=0, subset_size=5),
    "like must be one of 'torch-fidelity', 'torchmetrics', 'clean-fid', got 'tensorflow'": lambda: kid_subsets(
        ROWS, ROWS, like="tensorflow"
    ),
    "features_a: kid_subsets needs features as an array, tensor or path, got list": lambda: kid_subsets([[1.0]], ROWS),
    "features_a: kid needs the features themselves, which mean and covariance do not determine, got Moments": lambda: (
        kid(MOMENTS, ROWS)
    ),
    "features_b: cmmd needs the features themselves, which mean and covariance do not determine, got GaussianStats": (
        lambda: cmmd(ROWS, MOMENTS.stats())
    ),
    "the squares of the features leave the range of float64": lambda: kid(ROWS * 1e160, ROWS),
    "the kernel of these features leaves the range of float64": lambda: kid(ROWS * 1e100, ROWS, degree=5),
}


@pytest.mark.parametrize("message", CASES)
def test_rejected_in_these_words(message):
    with pytest.raises((TypeError, ValueError)) as caught:
        CASES[message]()
    assert str(caught.value) == message


def test_types_of_errors():
    with pytest.raises(TypeError, match="got Moments"):
        kid(MOMENTS, ROWS)
    with pytest.raises(TypeError, match="got list"):
        kid(ROWS, [[1.0]])
    with pytest.raises(ValueError, match="has dim"):
        kid(ROWS[:, :3], ROWS)
    with pytest.raises(TypeError):
        kid_subsets(ROWS, ROWS, subsets=2.5)


def test_files_without_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MOMENTS.stats().save("stats.npz")
    MOMENTS.save("moments.npz")
    for name, what in (("stats.npz", "statistics"), ("moments.npz", "a checkpoint of Moments")):
        with pytest.raises(ValueError) as caught:
            kid(ROWS, name)
        assert str(caught.value) == (
            "features_b: kid needs the features themselves, which mean and covariance do not determine, "
            f"but {name} holds {what}"
        )
    with pytest.raises(FileNotFoundError, match=r"no such file: gone\.npy"):
        kid("gone.npy", ROWS)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"features_a: x\.csv: unknown kind of file '\.csv'"):
        kid("x.csv", ROWS)


@pytest.mark.parametrize("rows", [[[0, 20]], [[-1, 3]]])
def test_subsets_of_rows_that_are_not_there(rows):
    subsets = np.array(rows)
    with pytest.raises(
        ValueError, match=f"row {rows[0][rows[0][0] == 0]} of a subset is out of range: features_a has 20 rows"
    ):
        fidfast._core.kid_of_subsets(ROWS, ROWS, subsets, subsets * 0 + [0, 1], 3, None, 1.0, "float32")
