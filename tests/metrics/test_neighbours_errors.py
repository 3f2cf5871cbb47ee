"""Error messages of the metrics of nearest neighbours."""

import re
from pathlib import Path

import numpy as np
import pytest

import fidfast
from fidfast import density_coverage, manifold_metrics, mifid, precision_recall

ROWS = np.random.default_rng(1).standard_normal((20, 5))
WITH_NAN = np.where(np.arange(100).reshape(20, 5) == 38, np.nan, ROWS)


def with_number(number):
    return np.where(np.isnan(WITH_NAN), number, ROWS)


def saved(folder):
    fidfast.GaussianStats(np.zeros(5), np.eye(5)).save(folder / "stats.npz")
    return folder / "stats.npz"


ERRORS = [
    (lambda _: precision_recall(ROWS[:, :3], ROWS), ValueError, "samples has dim 3, but reference has dim 5"),
    (lambda _: precision_recall(ROWS, ROWS[:3]), ValueError, "k=3 needs at least 4 rows; reference has 3"),
    (lambda _: precision_recall(ROWS[:3], ROWS), ValueError, "k=3 needs at least 4 rows; samples has 3"),
    (lambda _: density_coverage(ROWS, ROWS, k=20), ValueError, "k=20 needs at least 21 rows; reference has 20"),
    (lambda _: manifold_metrics(ROWS, ROWS, k=0), ValueError, "k must be at least 1, got 0"),
    (lambda _: precision_recall(ROWS, ROWS, k=2.0), TypeError, "k must be an integer, got 2.0"),
    (lambda _: precision_recall(ROWS, ROWS[:0]), ValueError, "reference has no rows"),
    (lambda _: density_coverage(ROWS[:0], ROWS), ValueError, "samples has no rows"),
    (lambda _: precision_recall(ROWS[0], ROWS), ValueError, "samples: features must be 2-D (n, dim), got shape (5,)"),
    (lambda _: precision_recall(ROWS, ROWS.astype(int)), TypeError,
     "reference: features must be float16, bfloat16, float32 or float64, got int64"),
    (lambda _: precision_recall(ROWS.tolist(), ROWS), TypeError,
     "samples: features must be an array or tensor (n, dim), got list"),
    (lambda _: precision_recall(ROWS, WITH_NAN), ValueError,
     "reference: features hold NaN or infinity; the first such row is 7"),
    (lambda _: mifid(WITH_NAN, ROWS), ValueError, "samples: features hold NaN or infinity; the first such row is 7"),
    (lambda _: precision_recall(ROWS, fidfast.Moments(5)), TypeError,
     "reference: precision_recall needs the (n, dim) features themselves, got Moments"),
    (lambda folder: density_coverage(fidfast.GaussianStats.load(saved(folder)), ROWS), TypeError,
     "samples: density_coverage needs the (n, dim) features themselves, got GaussianStats"),
    (lambda folder: mifid(saved(folder), ROWS), ValueError,
     "samples: mifid needs the (n, dim) features themselves, got {folder}/stats.npz, which holds statistics"),
    (lambda folder: precision_recall(ROWS, folder / "gone.npy"), FileNotFoundError, "no such file: {folder}/gone.npy"),
    (lambda folder: precision_recall(folder / "stats.txt", ROWS), FileNotFoundError,
     "no such file: {folder}/stats.txt"),
    (lambda _: mifid(ROWS, ROWS * 0), ValueError, "reference: every row is zero, so no cosine is defined"),
    (lambda _: mifid(ROWS * 0, ROWS), ValueError, "samples: every row is zero, so no cosine is defined"),
    (lambda _: mifid(ROWS[:1], ROWS), ValueError, "samples: a covariance needs at least 2 samples, got 1"),
    (lambda _: mifid(ROWS, ROWS, mean_over="real"), ValueError,
     "mean_over must be 'samples' or 'reference', got 'real'"),
    (lambda _: mifid(ROWS, ROWS, threshold=0.0), ValueError, "threshold must be above 0 and at most 1, got 0.0"),
    (lambda _: mifid(ROWS, ROWS, precision="half"), ValueError,
     "precision must be 'float32' or 'float64', got 'half'"),
    (lambda _: precision_recall(ROWS, ROWS, like="tf"), ValueError, "like must be 'adm' or 'stylegan3', got 'tf'"),
    (lambda _: precision_recall(ROWS, ROWS, like="adm", inclusive=False), ValueError,
     "inclusive=False contradicts like='adm', which counts a sample at the radius as inside"),
    (lambda _: precision_recall(ROWS, ROWS, like="adm", k=20), ValueError,
     "k=20 needs at least 21 rows; reference has 20"),
    (lambda _: precision_recall(ROWS[:3], ROWS, like="stylegan3"), ValueError,
     "k=3 needs at least 4 rows; samples has 3"),
    (lambda _: precision_recall(ROWS[:, :3], ROWS, like="adm"), ValueError,
     "samples has dim 3, but reference has dim 5"),
    (lambda _: precision_recall(WITH_NAN, ROWS, like="adm"), ValueError,
     "samples: features hold NaN or infinity; the first such row is 7"),
    (lambda _: precision_recall(with_number(1e20), ROWS, like="adm"), ValueError,
     "samples: squared distances overflow in float32; the first such row is 7"),
    (lambda _: precision_recall(with_number(-65520.0), ROWS, like="stylegan3"), ValueError,
     "samples: features exceed the range of float16; the first such row is 7"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), ERRORS, ids=[message for _, _, message in ERRORS])
def test_messages(tmp_path, call, kind, message):
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert str(caught.value) == message.replace("{folder}", str(tmp_path))


def test_documented_errors():
    """The messages in the documentation are those of the tests above, without the folder."""
    text = (Path(__file__).parents[2] / "docs" / "neighbours.md").read_text(encoding="utf-8")
    documented = re.findall(r"`(?:TypeError|ValueError): (.*?)`", text)
    assert documented
    assert set(documented) <= {message.replace("{folder}/", "") for _, _, message in ERRORS}
