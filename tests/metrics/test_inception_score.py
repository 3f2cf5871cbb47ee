"""Inception Score: compared with the plain formula; merging; data types; copies and files; error messages."""

import copy
import doctest
import itertools
import pickle
import re
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import InceptionScore, inception_score

#: Sums of at most some thousand terms of at most log(num_classes), each rounded to eps = 2e-16, in exp.
CLOSE = 1e-12


def logits_of(rng, n, num_classes=7, spread=3.0):
    return rng.standard_normal((n, num_classes)) * spread


def score_of(*batches, num_classes=7, splits=3, **options):
    score = InceptionScore(num_classes, splits=splits, **options)
    for batch in batches:
        score.update(batch)
    return score


@st.composite
def streams(draw):
    """Logits with numbers of rows around the block size of 64, a number of splits, and where to cut into batches."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([10, 63, 64, 65, 300]))
    splits = draw(st.sampled_from([1, 2, 3, 10]))
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=6)))
    return logits_of(rng, n), splits, cuts, rng


@given(streams(), st.booleans())
def test_score_of_each_split_equals_the_plain_formula(stream, contiguous):
    logits, splits, cuts, _ = stream
    n = len(logits)
    length = n if contiguous else None
    result = score_of(*np.split(logits, cuts), splits=splits, length=length).compute()
    parts = [logits[i::splits] for i in range(splits)]
    if contiguous:
        parts = [logits[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    expected = [reference.inception_score(reference.softmax(part)) for part in parts]
    np.testing.assert_allclose(result.scores, expected, rtol=CLOSE)
    assert result.mean == pytest.approx(np.mean(expected), rel=CLOSE)
    # A standard deviation is computed from differences, so its error is absolute.
    assert result.std == pytest.approx(np.std(expected), abs=CLOSE * np.max(expected))
    assert result.num_samples == n


@given(streams(), st.booleans())
def test_parts_with_first_merge_in_any_order(stream, contiguous):
    logits, splits, cuts, rng = stream
    options = {"splits": splits, "length": len(logits) if contiguous else None}
    bounds = [0, *cuts, len(logits)]
    parts = [score_of(logits[first:last], first=first, **options) for first, last in itertools.pairwise(bounds)]
    expected = score_of(logits, **options).compute()
    total = InceptionScore(7, **options)
    for i in rng.permutation(len(parts)):
        total.merge(parts[i])
    assert total.num_samples == len(logits)
    np.testing.assert_allclose(total.compute().scores, expected.scores, rtol=CLOSE)


def test_rows_after_a_merge_are_numbered_after_the_last(rng):
    logits = logits_of(rng, 25)
    score = score_of(logits[:10])
    score.merge(score_of(logits[10:17], first=10))
    score.update(logits[17:])
    np.testing.assert_allclose(score.compute().scores, score_of(logits).compute().scores, rtol=CLOSE)


@given(streams())
def test_score_of_logits_equals_that_of_their_probabilities(stream):
    logits, splits, _, _ = stream
    probabilities = reference.softmax(logits).astype(np.float64)
    of_logits = inception_score(logits, splits=splits)
    np.testing.assert_allclose(
        inception_score(probabilities, splits=splits, from_logits=False).scores, of_logits.scores, rtol=CLOSE
    )
    # The softmax does not change if a constant is added to all logits of a row; adding 2^20 rounds off 20 of 53 bits.
    shift = 2.0**20 * np.arange(len(logits))[:, np.newaxis] / len(logits)
    np.testing.assert_allclose(inception_score(logits + shift, splits=splits).scores, of_logits.scores, rtol=1e-9)


@pytest.mark.parametrize("num_classes", [1, 2, 1008])
def test_score_is_between_1_and_the_number_of_classes(rng, num_classes):
    one_hot = np.eye(num_classes)[np.arange(3 * num_classes) % num_classes]
    assert inception_score(one_hot, splits=1, from_logits=False).mean == pytest.approx(num_classes, rel=CLOSE)
    assert inception_score(1e5 * one_hot, splits=1).mean == pytest.approx(num_classes, rel=CLOSE)
    row = rng.standard_normal((1, num_classes))
    for equal_rows in (np.repeat(row, 50, axis=0), np.zeros((50, num_classes))):
        scores = inception_score(equal_rows, splits=5).scores
        assert min(scores) >= 1
        np.testing.assert_allclose(scores, 1, rtol=CLOSE)


@pytest.mark.parametrize("scale", [800.0, 1e5, 1.7e308])
def test_large_logits_do_not_overflow(scale):
    logits = scale * np.array([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5], [0.5, -1.0, 1.0]])
    assert inception_score(logits, splits=1).mean == pytest.approx(3, rel=CLOSE)


def test_classes_of_probability_zero_do_not_contribute(rng):
    probabilities = np.zeros((20, 6))
    probabilities[:, [1, 4]] = rng.dirichlet([1, 1], 20)
    probabilities[3, [1, 4]] = 1, 0
    expected = reference.inception_score(probabilities)
    assert inception_score(probabilities, splits=1, from_logits=False).mean == pytest.approx(expected, rel=CLOSE)
    assert inception_score(probabilities[:, [1, 4]], splits=1, from_logits=False).mean == pytest.approx(
        expected, rel=CLOSE
    )


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_strides(rng, dtype, from_logits):
    logits = torch.from_numpy(logits_of(rng, 100, 40))
    predictions = (logits if from_logits else logits.softmax(dim=1)).to(dtype)
    values = predictions.double().numpy()
    expected = score_of(values, num_classes=40, from_logits=from_logits)
    for tensor in (predictions, predictions.t().contiguous().t(), predictions.clone().requires_grad_()):
        assert score_of(tensor, num_classes=40, from_logits=from_logits) == expected
    if dtype is not torch.bfloat16:
        assert score_of(predictions.numpy(), num_classes=40, from_logits=from_logits) == expected
    else:
        assert score_of(values.astype(ml_dtypes.bfloat16), num_classes=40, from_logits=from_logits) == expected


# Errors -------------------------------------------------------------------------------------------------------------

ROWS = np.random.default_rng(1).dirichlet(np.ones(5), 80)


def changed(row, column, value):
    rows = ROWS.copy()
    rows[row, column] = value
    return rows


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (np.zeros(4), ValueError, "predictions must be 2-D (n, dim), got shape (4,)"),
        (np.zeros((4, 3)), ValueError, "predictions have 3 columns, but InceptionScore was created with num_classes=5"),
        (
            np.zeros((4, 5), dtype=int),
            TypeError,
            "predictions must be float16, bfloat16, float32 or float64, got int64",
        ),
        ([[0.2] * 5], TypeError, "predictions must be an array or tensor (n, dim), got list"),
        (changed(70, 2, np.nan), ValueError, "predictions hold NaN or infinity; the first such row is 70"),
        (changed(70, 2, -np.inf), ValueError, "predictions hold NaN or infinity; the first such row is 70"),
        (
            changed(70, 2, -0.25),
            ValueError,
            "predictions must be probabilities (from_logits=False), but column 2 of row 70 is -0.25",
        ),
        (
            np.where(np.arange(80)[:, np.newaxis] == 67, 0.5, ROWS),
            ValueError,
            "predictions must be probabilities (from_logits=False), but row 67 sums to 2.5; rounding explains a "
            "difference from 1 of at most 0.0039",
        ),
    ],
)
def test_rejected_batch_leaves_the_score_unchanged(predictions, error, message):
    score = score_of(ROWS, num_classes=5, from_logits=False)
    before = copy.copy(score)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        score.update(predictions)
    assert score == before


def test_number_of_rows_other_than_length(rng):
    score = score_of(logits_of(rng, 8), length=10)
    before = copy.copy(score)
    with pytest.raises(ValueError, match=r"^got row 10, but length=10 \(rows are numbered from 0\)$"):
        score.update(logits_of(rng, 3))
    assert score == before
    with pytest.raises(ValueError, match=r"^got 8 rows, but length=10$"):
        score.compute()
    score.update(logits_of(rng, 2))
    assert score.compute().num_samples == 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InceptionScore(0), "num_classes must be at least 1, got 0"),
        (lambda: InceptionScore(5, splits=0), "splits must be at least 1, got 0"),
        (lambda: InceptionScore(5, first=-1), "first must be at least 0, got -1"),
        (lambda: InceptionScore(5, splits=10, length=9), "length must be at least splits = 10, got 9"),
        (lambda: InceptionScore(5, split_size=0), "split_size must be at least 1, got 0"),
        (
            lambda: InceptionScore(5, splits=2, split_size=3),
            "give splits or split_size, not both; got splits=2 and split_size=3",
        ),
        (lambda: InceptionScore(5, split_size=3, length=9), "split_size=3 needs no length, got length=9"),
        (lambda: InceptionScore(5, split_size=3).compute(), "split 0 has no rows: got 0 rows for split_size=3"),
        (lambda: inception_score(np.zeros((0, 3)), like="adm"), "predictions has no rows"),
        (lambda: InceptionScore(5, splits=2).compute(), "split 0 has no rows: got 0 rows for splits=2"),
        (lambda: score_of(np.zeros((2, 7))).compute(), "split 2 has no rows: got 2 rows for splits=3"),
        (lambda: inception_score(np.zeros((5, 3))), "splits must be from 1 to the number of rows = 5, got 10"),
        (lambda: inception_score(np.zeros((5, 3)), splits=0), "splits must be at least 1, got 0"),
        (
            lambda: inception_score(np.eye(5), splits=2, like="tf"),
            "like must be one of 'torch-fidelity', 'torchmetrics', 'improved-gan', 'stylegan3', 'adm', got 'tf'",
        ),
        (
            lambda: inception_score(np.eye(5), splits=2, like="stylegan3", seed=1),
            "seed=1 has no effect: stylegan3 does not shuffle",
        ),
        (lambda: inception_score(np.zeros((5, 3, 1))), "predictions must be 2-D (n, dim), got shape (5, 3, 1)"),
        (
            lambda: inception_score(np.full((5, 2), 2.0), splits=2, from_logits=False),
            "predictions must be probabilities (from_logits=False), but row 0 sums to 4; rounding explains a "
            "difference from 1 of at most 0.0039",
        ),
    ],
)
def test_messages(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_rounded_probabilities_are_accepted(rng, dtype):
    """Probabilities of 1,008 classes, rounded to the type, and passed in it or in float64."""
    logits = torch.from_numpy(rng.standard_normal((200, 1008)).astype(np.float32))
    rounded = logits.softmax(dim=1).numpy().astype(dtype)
    for probabilities in (rounded, rounded.astype(np.float64)):
        assert inception_score(probabilities, splits=2, from_logits=False).mean == pytest.approx(
            inception_score(logits, splits=2).mean, rel=2.0**-7
        )


# Results, copies and files ------------------------------------------------------------------------------------------


def test_result(rng):
    result = inception_score(logits_of(rng, 90), splits=3)
    assert tuple(result) == (result.mean, result.std, result.scores, 90, "torch-fidelity", 2020)
    assert result.to_dict() == {
        "mean": result.mean, "std": result.std, "scores": list(result.scores), "num_samples": 90,
        "like": "torch-fidelity", "seed": 2020,
    }  # fmt: skip
    assert str(result) == (f"{result.mean:.6g}, standard deviation {result.std:.2g} over 3 splits, 90 samples in total")


def test_results_hold_the_seed_of_the_shuffle(rng):
    logits = logits_of(rng, 90)
    used = [
        (like, seed, inception_score(logits, splits=3, like=like, seed=seed))
        for like, seed in (("torch-fidelity", 5), ("torchmetrics", 5), ("torchmetrics", None), ("stylegan3", None))
    ]
    assert all((result.like, result.seed) == (like, seed) for like, seed, result in used)
    stream = score_of(logits).compute()
    assert (stream.like, stream.seed) == (None, None)


@pytest.mark.parametrize("n", [0, 40])
@pytest.mark.parametrize(
    "options",
    [{}, {"length": 100}, {"first": 3, "from_logits": True}, {"splits": None, "split_size": 15, "first": 20}],
)
def test_copies_pickles_and_checkpoints_continue_with_the_same_digits(rng, tmp_path, n, options):
    logits = logits_of(rng, 90)
    original = score_of(logits[:n], **options)
    original.save(tmp_path / "run")
    copies = {
        "copy": copy.copy(original),
        "deepcopy": copy.deepcopy(original),
        "pickle": pickle.loads(pickle.dumps(original)),
        "checkpoint": InceptionScore.load(tmp_path / "run.npz"),
    }
    untouched = copy.copy(original)
    original.update(logits[n:])
    for name, copied in copies.items():
        assert copied == untouched, name
        splits = "split_size=15" if "split_size" in options else "splits=3"
        assert repr(copied) == f"InceptionScore(num_classes=7, {splits}, num_samples={n})"
        copied.update(logits[n:])
        assert copied == original, name
    original.reset()
    assert original == score_of(**options)


def test_equality(rng):
    logits = logits_of(rng, 9)
    assert score_of(logits) == score_of(logits)
    assert score_of(logits) != score_of(logits[:8])
    assert score_of(logits) != score_of(logits, splits=2)
    assert score_of(logits) != score_of(logits, length=9)
    assert score_of(logits) != "score"
    assert score_of() != score_of(from_logits=False)
    with pytest.raises(TypeError):
        hash(score_of())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 6}, "num_classes=7 and num_classes=6"),
        ({"splits": 4}, "splits=3 and splits=4"),
        ({"length": 9}, "length=None and length=9"),
        ({"splits": None, "split_size": 3}, "split_size=None and split_size=3"),
        ({"from_logits": False}, "from_logits=True and from_logits=False"),
    ],
)
def test_merge_of_different_options_is_rejected(rng, options, message):
    score = score_of(logits_of(rng, 9))
    with pytest.raises(ValueError, match=f"^cannot merge Inception Scores of {message}$"):
        score.merge(score_of(**options))


@pytest.mark.parametrize(
    ("options", "size", "seen"),
    [
        ({"length": 9}, 3, "3 and 3"),
        ({"splits": None, "split_size": 4}, 4, "4 and 4"),
        ({"splits": None, "split_size": 100}, 5, "5 and 4"),  # both parts are numbered from 0
    ],
)
def test_merge_with_too_many_rows_in_a_split_is_rejected(rng, options, size, seen):
    logits = logits_of(rng, 9)
    score, overlapping = score_of(logits[:5], **options), score_of(logits[:4], **options)
    before = copy.copy(score)
    message = f"cannot merge: split 0 has {size} rows, but the two scores have seen {seen} of them"
    with pytest.raises(ValueError, match=f"^{message}$"):
        score.merge(overlapping)
    assert score == before


def test_files_with_other_content(rng, tmp_path):
    score = score_of(logits_of(rng, 9))
    score.save(tmp_path / "score.npz")
    with pytest.raises(ValueError, match="holds a checkpoint of InceptionScore, not a checkpoint of Moments"):
        fidfast.Moments.load(tmp_path / "score.npz")
    with pytest.raises(ValueError, match=r"features_a: .*holds a checkpoint of InceptionScore, not statistics or feat"):
        fidfast.fid(tmp_path / "score.npz", np.zeros((3, 2)))
    fidfast.Moments(2).save(tmp_path / "moments.npz")
    with pytest.raises(ValueError, match="holds a checkpoint of Moments, not a checkpoint of InceptionScore"):
        InceptionScore.load(tmp_path / "moments.npz")
    with np.load(tmp_path / "score.npz") as archive:
        entries = dict(archive)
    for damage, message in (
        ({"counts": None}, "score.npz: the state of InceptionScore has no 'counts'"),
        ({"counts": np.ones(2, int)}, r"score.npz: 'counts' must be integers of shape \(3,\), got \[1, 1\]"),
        ({"counts": np.ones(3) / 2}, "score.npz: 'counts' must be integers of shape"),
        ({"stream": np.zeros(2, int)}, r"score.npz: 'stream' must be integers of shape \(3,\)"),
    ):
        kept = {key: value for key, value in {**entries, **damage}.items() if value is not None}
        np.savez(tmp_path / "score.npz", **kept)
        with pytest.raises(ValueError, match=message):
            InceptionScore.load(tmp_path / "score.npz")


def test_updates_from_several_threads(rng):
    batches = np.array_split(logits_of(rng, 4000), 200)
    score = InceptionScore(7, splits=1)

    def work(mine):
        for batch in mine:
            score.update(batch)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert score.num_samples == 4000
    # With one split the order of the batches changes the score by rounding only.
    assert score.compute().mean == pytest.approx(score_of(*batches, splits=1).compute().mean, rel=CLOSE)


def test_docstring_examples():
    assert doctest.testmod(sys.modules["fidfast._metrics.inception_score"]).failed == 0
