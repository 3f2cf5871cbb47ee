"""Rows in both sets, or several times in one: they are counted, and no error bar is given that does not hold."""

import math
import re

import numpy as np
import pytest

import fidfast
from fidfast._inputs import open_pair
from fidfast._metrics.duplicates import find_equal_rows

N, M, DIM = 600, 400, 8


def rows(n, seed, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((n, DIM)).astype(dtype)


X, Y = rows(N, 0), rows(M, 1)
SHARED = {
    "equal sets": (X, X, N),
    "another order": (X, X[::-1], N),
    "a subset as reference": (X, X[:200], 200),
    "a subset as samples": (X[:200], X, 200),
    "another type": (X.astype(np.float32), X.astype(np.float32).astype(np.float64), N),
    "other zeros": (X * (X > 0), np.where(X > 0, X, -0.0), N),
    "copies of a few": (np.vstack([rows(N, 2), Y[:40]]), Y, 40),
    "a copy of one, many times": (np.vstack([rows(N, 2), np.tile(Y[:1], (90, 1))]), Y, 90),
}


@pytest.fixture(params=SHARED)
def shared(request):
    return SHARED[request.param]


def count_of(text):
    """The number of shared rows in a text."""
    return int(re.search(r"([\d,]+) of the [\d,]+ rows of \w+ are also in \w+", text)[1].replace(",", ""))


def test_estimate_has_no_error_bar_for_sets_that_share_rows(shared):
    samples, reference, count = shared
    found = fidfast.estimate(samples, reference)
    assert math.isnan(found.stderr)
    assert math.isnan(found.unbiased)
    assert found.shared_rows == found.to_dict()["shared_rows"] == count
    assert count_of(str(found)) == count_of(found.table()) == count_of(found.to_dict()["note"]) == count
    assert found.value == fidfast.fid(samples, reference)


def test_kid_has_no_error_bar_for_sets_that_share_rows(shared):
    samples, reference, count = shared
    found = fidfast.kid(samples, reference)
    assert math.isnan(found.stderr)
    assert found.to_dict()["stderr"] is None
    assert found.shared_rows == found.to_dict()["shared_rows"] == count
    assert count_of(str(found)) == count_of(found.note) == count


@pytest.mark.parametrize("metric", ["precision_recall", "density_coverage", "manifold_metrics", "fid_infinity"])
def test_other_metrics_count_shared_rows(shared, metric):
    samples, reference, count = shared
    found = getattr(fidfast, metric)(samples, reference)
    assert found.shared_rows == found.to_dict()["shared_rows"] == count
    assert count_of(str(found)) == count_of(found.to_dict()["caution"]) == count


def test_subsets_count_shared_rows(shared):
    samples, reference, count = shared
    found = fidfast.kid_subsets(samples, reference, subsets=3, subset_size=50)
    assert count_of(str(found)) == found.to_dict()["shared_rows"] == count


def test_compare_has_no_error_bar_if_a_model_copies_the_reference():
    found = fidfast.compare(rows(N, 2), np.vstack([X, Y[:100]]), Y)
    assert math.isnan(found.stderr)
    assert math.isnan(found.p_value)
    assert str(found).startswith("b has no error bar: 100 of the 700 rows of samples_b are also in reference")


def test_compare_says_that_the_models_share_rows():
    found = fidfast.compare(X, np.vstack([X[:300], rows(300, 2)]), Y)
    assert found.stderr > 0
    assert "300 of the 600 rows of samples_a are also in samples_b" in str(found)
    assert "are also in" not in str(fidfast.compare(X, X, Y, paired=True))


def test_a_report_counts_shared_rows():
    found = fidfast.report(np.vstack([X, Y[:100]]), Y)
    assert found.to_dict()["shared_rows"] == 100
    assert count_of(found.reasons["estimate"]) == 100
    assert "100 of the 700 rows of samples are also in reference" in " ".join(found.table().split())


def test_independent_rows_keep_their_error_bars():
    estimate, kernel = fidfast.estimate(X, Y), fidfast.kid(X, Y + 0.3)
    assert (estimate.note, estimate.shared_rows) == (None, 0)
    assert (kernel.note, kernel.caution, kernel.shared_rows) == (None, None, 0)
    assert "shared_rows" not in kernel.to_dict()
    assert fidfast.estimate(X, fidfast.Moments.from_features(Y).stats()).shared_rows is None


def test_one_row_of_many_changes_no_error_bar():
    one = np.vstack([rows(3000, 3), Y[:1]])
    alone, together = fidfast.estimate(one[:-1], Y + 0.5), fidfast.estimate(one, np.vstack([Y + 0.5, Y[:1]]))
    assert together.shared_rows == 1
    assert together.stderr == pytest.approx(alone.stderr, rel=0.1)
    assert "1 of the 3,001 rows of samples are also in reference, too few to matter" in str(together)
    assert fidfast.kid(one, np.vstack([Y + 0.5, Y[:1]])).note is None


@pytest.mark.parametrize(
    ("samples", "reference"),
    [
        (X, X + 1e-7 * rows(N, 5)),
        (X, X.astype(np.float16)),
        (X, fidfast.Moments.from_features(X)),
        (fidfast.Moments.from_features(X), X),
        (X, fidfast.Moments.from_features(X).stats()),
    ],
)
def test_near_copies_and_statistics_of_the_same_rows_have_no_error_bar(samples, reference):
    """A distance is not negative, so an interval far below 0 is that of rows that are not independent."""
    found = fidfast.estimate(samples, reference)
    assert math.isnan(found.stderr)
    assert "far below 0: samples and reference are not independent" in found.note


def test_kid_of_near_copies_has_no_error_bar():
    found = fidfast.kid(X, X + 1e-7 * rows(N, 5))
    assert math.isnan(found.stderr)
    assert found.note


def blocks_of(*parts):
    moments = fidfast.Moments(DIM, blocks=20)
    for part in parts:
        moments.update(part)
    return moments


def test_equal_blocks():
    found = fidfast.estimate(blocks_of(X), blocks_of(X))
    assert found.note == ("20 of the 20 blocks of samples are also in reference, so the two sides are not independent")
    assert fidfast.estimate(blocks_of(X), blocks_of(Y)).note is None
    twice = fidfast.Moments.from_blocks([*blocks_of(X).blocks, *blocks_of(X).blocks])
    assert fidfast.estimate(twice, Y).note == "samples contains each of its blocks 2 times: pass each once"


# Rows that repeat on one side ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [2, 3])
def test_rows_that_all_repeat_have_no_error_bar(times):
    found = fidfast.estimate(np.tile(X, (times, 1)), Y)
    assert found.note == f"samples contains each of its rows {times} times: pass each once"
    assert (
        fidfast.kid(X, np.tile(Y, (times, 1))).note
        == f"reference contains each of its rows {times} times: pass each once"
    )


def test_rows_that_repeat_are_a_caution():
    repeated = np.vstack([X, X[:50]])
    texts = [fidfast.estimate(repeated, Y).caution, fidfast.kid(repeated, Y + 0.3).caution]
    texts.append(str(fidfast.kid_subsets(repeated, Y, subsets=3, subset_size=20)))
    assert all("50 of the 650 rows of samples repeat earlier ones" in text for text in texts)


@pytest.mark.parametrize("metric", ["precision_recall", "density_coverage", "manifold_metrics", "fid_infinity"])
def test_other_metrics_say_that_rows_repeat(metric):
    compute = getattr(fidfast, metric)
    assert compute(X, Y).caution is None
    found = compute(np.vstack([X, X[:50]]), Y)
    assert "50 of the 650 rows of samples repeat earlier ones" in found.caution
    assert found.caution in str(found)
    assert "70 of the 470 rows of reference repeat earlier ones" in compute(X, np.vstack([Y, Y[:70]])).caution
    assert "samples contains each of its rows 3 times: pass each once" in compute(np.tile(X, (3, 1)), Y).caution


def test_the_report_shows_the_cautions_of_all_metrics():
    repeated = np.vstack([X, X[:50]])
    found = fidfast.report(repeated, Y)
    text = "50 of the 650 rows of samples repeat earlier ones: "
    notes = {row.name.strip(): row.note for row in found.rows()}
    assert all(text in notes[name] for name in ("Fréchet distance, unbiased", "extrapolated", "precision", "density"))
    numbers = found.to_dict()
    assert numbers["caution"] == fidfast.estimate(repeated, Y).caution
    assert numbers["cautions"] == {
        "precision_recall": fidfast.precision_recall(repeated, Y).caution,
        "density_coverage": fidfast.density_coverage(repeated, Y).caution,
    }


# How rows are compared -----------------------------------------------------------------------------------------------


def equal_rows(samples, reference):
    return find_equal_rows(*open_pair(samples, reference))


@pytest.mark.parametrize("seed", range(3))
def test_counts_equal_those_of_plain_python(seed):
    rng = np.random.default_rng(seed)
    one, two = (rng.integers(0, 3, (n, 3)).astype(np.float32) for n in (25, 18))
    found = equal_rows(one, two.astype(np.float64))
    for side, mine, theirs in zip(found.sides, (one, two), (two, one), strict=True):
        keys, others = [tuple(row) for row in mine.tolist()], {tuple(row) for row in theirs.tolist()}
        assert side.total == len(keys)
        assert side.shared == sum(key in others for key in keys)
        assert side.repeated == len(keys) - len(set(keys))
    assert found.times_in_reference.tolist() == [
        sum(tuple(row) == tuple(other) for other in two.tolist()) for row in one.tolist()
    ]


def test_rows_are_compared_in_slices(monkeypatch, tmp_path):
    monkeypatch.setattr("fidfast._stats.slices.ROWS_PER_SLICE", 64)
    np.save(tmp_path / "x.npy", X)
    assert equal_rows(str(tmp_path / "x.npy"), X[100:]).shared_rows == N - 100


@pytest.mark.parametrize("bit", [2.0**-52, -(2.0**-53)])
def test_rows_that_differ_in_one_bit_are_not_equal(bit):
    other = np.ones((3, 4))
    other[:, 2] += bit
    assert equal_rows(np.ones((3, 4)), other).shared_rows == 0


def test_tensors_of_bfloat16():
    torch = pytest.importorskip("torch")
    narrow = torch.from_numpy(X).bfloat16()
    assert equal_rows(narrow, narrow.double()).shared_rows == N
