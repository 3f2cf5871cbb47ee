"""Error messages of the kernel distances."""

import re
from pathlib import Path

import numpy as np
import pytest

import fidfast
from fidfast import cmmd, kid, kid_subsets

ROWS = np.random.default_rng(1).standard_normal((20, 5))
WITH_INFINITY = ROWS.copy()
WITH_INFINITY[7, 3] = np.inf

MOMENTS = fidfast.Moments(5)
MOMENTS.update(ROWS)

CASES = {
    "samples has dim 3, but reference has dim 5": lambda: kid(ROWS[:, :3], ROWS),
    "samples: a kernel distance needs at least 2 samples, got 1": lambda: kid(ROWS[:1], ROWS),
    "reference: a kernel distance needs at least 1 sample, got 0": lambda: cmmd(ROWS, ROWS[:0]),
    "reference: features hold NaN or infinity; the first such row is 7": lambda: kid(ROWS, WITH_INFINITY),
    "reference: features must be 2-D (n, dim), got shape (5,)": lambda: kid(ROWS, ROWS[0]),
    "samples: features must be an array or tensor (n, dim), got list": lambda: kid([[1.0]], ROWS),
    "samples: features must be float16, bfloat16, float32 or float64, got int64": lambda: cmmd(
        np.ones((4, 5), dtype=np.int64), ROWS
    ),
    "degree must be at least 1, got 0": lambda: kid(ROWS, ROWS, degree=0),
    "gamma must be positive, got -1.000000": lambda: kid(ROWS, ROWS, gamma=-1.0),
    "coef0 must not be negative, got -0.500000": lambda: kid(ROWS, ROWS, coef0=-0.5),
    "sigma must be positive, got 0.000000": lambda: cmmd(ROWS, ROWS, sigma=0.0),
    "precision must be 'float32' or 'float64', got 'half'": lambda: kid(ROWS, ROWS, precision="half"),
    "samples: kid needs the (n, dim) features themselves, got Moments": lambda: kid(MOMENTS, ROWS),
    "reference: cmmd needs the (n, dim) features themselves, got GaussianStats": lambda: cmmd(ROWS, MOMENTS.stats()),
    "the kernel distance of these features exceeds 1.79769e+308, the largest float64: scale the features down, or use "
    "a lower degree or gamma": lambda: kid(ROWS * 1e100, ROWS, degree=5),
    "degree must be at most 100, got 2147483647": lambda: kid(ROWS, ROWS, degree=2**31 - 1),
}

SUBSET_CASES = {
    "subset_size must be at most 20, the number of rows of samples, got 1000": lambda: kid_subsets(ROWS, ROWS),
    "subset_size must be at most 20, the number of rows of reference, got 30": lambda: kid_subsets(
        np.tile(ROWS, (2, 1)), ROWS, subset_size=30
    ),
    "subset_size must be at least 2, got 1": lambda: kid_subsets(ROWS, ROWS, subset_size=1),
    "subsets must be at least 1, got 0": lambda: kid_subsets(ROWS, ROWS, subsets=0, subset_size=5),
    "like must be one of 'torch-fidelity', 'torchmetrics', 'clean-fid', got 'tensorflow'": lambda: kid_subsets(
        ROWS, ROWS, like="tensorflow"
    ),
    "samples: features must be an array or tensor (n, dim), got list": lambda: kid_subsets([[1.0]], ROWS),
    "reference: features must be 2-D (n, dim), got shape (5,)": lambda: kid_subsets(ROWS, ROWS[0], subset_size=5),
}


@pytest.mark.parametrize(("message", "call"), [*CASES.items(), *SUBSET_CASES.items()])
def test_messages(message, call):
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
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


FILES = {
    "stats.npz": "reference: kid needs the (n, dim) features themselves, got stats.npz, which holds statistics",
    "moments.npz": (
        "reference: kid needs the (n, dim) features themselves, got moments.npz, which holds a checkpoint of Moments"
    ),
}


def test_files_without_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MOMENTS.stats().save("stats.npz")
    MOMENTS.save("moments.npz")
    for name, message in FILES.items():
        with pytest.raises(ValueError) as caught:
            kid(ROWS, name)
        assert str(caught.value) == message
    with pytest.raises(FileNotFoundError, match=r"no such file: gone\.npy"):
        kid("gone.npy", ROWS)
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"^samples: x\.csv: unknown suffix '\.csv'; supported are"):
        kid("x.csv", ROWS)


def test_documented_errors():
    """The messages in the documentation are those of the tests above."""
    text = (Path(__file__).parents[2] / "docs" / "kernel.md").read_text(encoding="utf-8")
    documented = re.findall(r"`(?:TypeError|ValueError): (.*?)`", text)
    assert documented
    assert set(documented) <= {*CASES, *SUBSET_CASES, *FILES.values()}


@pytest.mark.parametrize("rows", [[[0, 20]], [[-1, 3]]])
def test_subsets_with_rows_out_of_range(rows):
    subsets = np.array(rows)
    row = rows[0][1] if rows[0][0] == 0 else rows[0][0]
    message = f"row {row} of a subset is out of range: samples has 20 rows"
    with pytest.raises(ValueError, match=re.escape(message)):
        fidfast._core.kid_of_subsets(ROWS, ROWS, subsets, subsets * 0 + [0, 1], 3, None, 1.0, "float32")
