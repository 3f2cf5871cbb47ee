"""The Vendi score: against its package, closed forms and laws."""

import math
import re
import warnings

import ml_dtypes
import numpy as np
import pytest
import reference
import torch

import fidfast
from fidfast import vendi

with warnings.catch_warnings():  # raised by the import itself
    warnings.simplefilter("ignore")
    import vendi_score.vendi as package

ORDERS = [0, 0.3, 1 - 1e-9, 1, 1.2, 2, 7, 1e6, math.inf]


def package_score(kernel, q):
    with warnings.catch_warnings():  # of a module of SciPy that it names
        warnings.simplefilter("ignore")
        return float(package.score_K(kernel, q="inf" if q == math.inf else q))


@pytest.fixture
def rows(rng):
    return rng.standard_normal((60, 12)) * np.logspace(0, -2, 12) + 0.1


def cosine(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


@pytest.mark.parametrize("q", [1, 1.5, 2, 5, math.inf])
@pytest.mark.parametrize("n", [60, 7])  # more and fewer rows than columns
def test_equals_the_package(rows, n, q):
    # Eigenvalues of both are accurate to n eps, 1e-14. The package also counts positive ones that are rounding, whose
    # terms -l log l are below 60 * 1e-15 * 35 = 2e-12.
    assert vendi(rows[:n], q=q).value == pytest.approx(package_score(cosine(rows[:n]), q), rel=1e-10)


def test_equals_the_dual_score_of_the_package(rows):
    pytest.importorskip("sklearn")
    assert vendi(rows).value == pytest.approx(float(package.score_dual(rows)), rel=1e-10)


@pytest.mark.parametrize("q", ORDERS)
def test_orthogonal_groups(q):
    """Orthogonal directions with the shares p have the effective number of p."""
    counts = np.array([1, 2, 5, 8])
    rows = np.repeat(np.eye(4, 5), counts, axis=0)
    p = counts / counts.sum()
    expected = {
        0: 4.0,
        1: np.exp(-p @ np.log(p)),
        1 - 1e-9: np.exp(-p @ np.log(p)),  # continuous: they differ by the order of 1e-9
        1e6: 2.0,  # (1/2)^(1e6 / (1 - 1e6)), which differs by 1e-6 * log(2) * 2
        math.inf: 2.0,
    }.get(q) or np.sum(p**q) ** (1 / (1 - q))
    assert vendi(rows, q=q).value == pytest.approx(expected, rel=2e-6 if q == 1e6 else 2e-9)


def test_the_score_falls_with_the_order(rows):
    scores = [vendi(rows, q=q).value for q in ORDERS]
    assert 12 == scores[0] > scores[-1] > 1
    assert all(np.diff(scores) <= 1e-9)


def test_repeated_rows_change_nothing(rows):
    for few in (rows, rows[:4]):
        assert vendi(np.repeat(few, 5, axis=0)).value == pytest.approx(vendi(few).value, rel=1e-12)


def test_lengths_of_rows_do_not_matter(rows, rng):
    lengths = 10.0 ** rng.uniform(-300, 300, (60, 1))
    assert vendi(rows * lengths).value == pytest.approx(vendi(rows).value, rel=1e-12)


@pytest.mark.parametrize("value", [5e-324, 1e-200, 1.0, 1.7e308])
def test_equal_rows_count_as_one(value):
    for n in (1, 3, 9):
        rows = np.full((n, 4), value)
        for q in ORDERS:
            assert vendi(rows, q=q).value == pytest.approx(1.0, abs=1e-12)


def test_types_and_files(rows, tmp_path):
    narrow = rows.astype(np.float16)
    np.save(tmp_path / "rows.npy", narrow)
    expected = vendi(narrow.astype(np.float64)).value
    for source in (narrow, torch.from_numpy(narrow), tmp_path / "rows.npy", np.asfortranarray(narrow)):
        assert vendi(source).value == expected
    bfloat16 = rows.astype(ml_dtypes.bfloat16)
    assert vendi(bfloat16).value == vendi(bfloat16.astype(np.float64)).value


def test_slices_of_a_file_add_up(rng, tmp_path, monkeypatch):
    rows = rng.standard_normal((700, 6))
    np.save(tmp_path / "rows.npy", rows)
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 100)
    assert vendi(tmp_path / "rows.npy").value == pytest.approx(package_score(cosine(rows), 1), rel=1e-10)


def test_moments_of_a_stream_of_unit_rows(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    parts = [fidfast.Moments.from_features(part) for part in (unit[:25], unit[25:])]
    found = vendi(parts[0] + parts[1], kernel="linear")
    assert found.value == pytest.approx(vendi(rows).value, rel=1e-12)
    assert found.num_samples == 60
    assert vendi(unit, kernel="linear").value == pytest.approx(found.value, rel=1e-12)


def test_gaussian_and_precomputed_kernels(rows):
    kernel = reference.gaussian_kernel(rows, rows, 0.7)
    expected = package_score(kernel, 1)
    assert vendi(kernel, kernel="precomputed").value == pytest.approx(expected, rel=1e-10)
    # Squared distances up to 20 have an absolute error of 1e-14.
    assert vendi(rows, kernel="gaussian", sigma=0.7).value == pytest.approx(expected, rel=1e-10)
    scale = 2.0**400
    assert vendi(rows * scale, kernel="gaussian", sigma=0.7 * scale).value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("sigma", "expected"), [(1e-300, 60.0), (1e300, 1.0)])
def test_extreme_widths(rows, sigma, expected):
    assert vendi(rows, kernel="gaussian", sigma=sigma).value == pytest.approx(expected, abs=1e-9)


def test_result(rows):
    found = vendi(rows, q="inf")
    assert (found.q, found.num_samples, found.kernel) == (math.inf, 60, "cosine")
    assert float(found) == found.value
    assert str(vendi(rows, q=2)).endswith(" of order 2, of 60 samples")


ROWS = np.random.default_rng(0).standard_normal((9, 4))
CASES = {
    "q must be at least 0, got -1": lambda: vendi(ROWS, q=-1),
    "q must be at least 0, got nan": lambda: vendi(ROWS, q=math.nan),
    "q must be a number, got 'infinity'": lambda: vendi(ROWS, q="infinity"),
    "sigma must be given for kernel='gaussian'": lambda: vendi(ROWS, kernel="gaussian"),
    "sigma has no meaning for kernel='cosine'": lambda: vendi(ROWS, sigma=1.0),
    "sigma must be positive and finite, got 0": lambda: vendi(ROWS, kernel="gaussian", sigma=0),
    "samples: vendi needs at least 1 row, got 0": lambda: vendi(ROWS[:0]),
    "samples: a row holds only zeros": lambda: vendi(np.zeros((3, 4))),
    "samples: kernel='linear' needs rows of norm 1, and their mean squared norm is": lambda: vendi(
        ROWS, kernel="linear"
    ),
    "samples: kernel='linear' needs rows of norm 1, and": lambda: vendi(
        fidfast.Moments.from_features(ROWS), kernel="linear"
    ),
    "samples: vendi needs Moments of at least 2 rows, got 1": lambda: vendi(
        fidfast.Moments.from_features(np.eye(3)[:1]), kernel="linear"
    ),
    "samples: vendi needs the (n, dim) features themselves, got Moments": lambda: vendi(
        fidfast.Moments.from_features(ROWS)
    ),
    "samples: kernel='precomputed' needs a square matrix (n, n), got shape (9, 4)": lambda: vendi(
        ROWS, kernel="precomputed"
    ),
    "samples: a precomputed kernel must have 1 on its diagonal": lambda: vendi(2 * np.eye(3), kernel="precomputed"),
    "samples: a precomputed kernel must be symmetric": lambda: vendi(
        np.eye(3) + np.eye(3, k=1), kernel="precomputed"
    ),
    "samples: the kernel is not positive semidefinite (eigenvalues of K / n from -0.5 to 1.5)": lambda: vendi(
        np.array([[1.0, 2.0], [2.0, 1.0]]), kernel="precomputed"
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", CASES)
def test_errors(message):
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(message)):
        CASES[message]()
