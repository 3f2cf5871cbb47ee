"""`ClassMoments`: splits and merges, labels, rejected input, storage, threads."""

import copy
import doctest
import pickle
import re
import sys
import threading

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import fidfast
from fidfast import ClassMoments
from fidfast._cli.commands import main

#: Sums of some thousand products of relative error eps each, whatever their order.
CLOSE = 1e-11


def moments_of(*batches, dim=None, **options):
    moments = ClassMoments(dim or batches[0][0].shape[1], **options)
    for features, labels in batches:
        moments.update(features, labels)
    return moments


def require_close(moments, expected):
    """The same classes, each with the same statistics."""
    assert list(moments) == list(expected)
    for label in expected:
        assert moments[label].num_samples == expected[label].num_samples
        if expected[label].num_samples > 1:
            ours, theirs = moments.stats(label), expected[label].stats()
            np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=0, atol=CLOSE * np.trace(theirs.sigma))
            np.testing.assert_allclose(ours.mu, theirs.mu, rtol=0, atol=CLOSE * np.abs(theirs.mu).max())


def one_by_one(features, labels):
    """Moments of each class from its own pass over the rows."""
    result = {}
    for label in sorted(set(labels)):
        result[label] = fidfast.Moments(features.shape[1])
        result[label].update(np.ascontiguousarray(features[np.array(labels) == label]))
    return result


@st.composite
def streams(draw):
    """Rows with labels, in classes of one row to many times dim, and positions at which to split them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([3, 40, 1023, 1025, 2500]))
    dim = draw(st.sampled_from([1, 5, 30]))
    num_classes = draw(st.sampled_from([1, 2, 7, 60]))
    labels = rng.zipf(1.3, n) % num_classes
    if draw(st.booleans()):
        labels = np.sort(labels)
    features = rng.standard_normal((n, dim)) + labels[:, np.newaxis]
    if draw(st.booleans()):
        labels = np.array([f"class {label}" for label in labels])
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=5)))
    return features, labels, cuts, rng


@given(streams())
def test_moments_do_not_depend_on_splits_or_on_the_order_of_merges(stream):
    features, labels, cuts, rng = stream
    expected = one_by_one(features, labels.tolist())
    batches = list(zip(np.split(features, cuts), np.split(labels, cuts), strict=True))
    require_close(moments_of((features, labels)), expected)
    require_close(moments_of(*batches), expected)
    parts = [moments_of(batches[i], dim=features.shape[1]) for i in rng.permutation(len(batches))]
    total = ClassMoments(features.shape[1])
    for part in parts:
        total += part
    require_close(total, expected)
    assert total.num_samples == len(features)


@given(streams())
def test_total_has_the_rows_of_all_classes(stream):
    features, labels, cuts, _ = stream
    moments = moments_of(*zip(np.split(features, cuts), np.split(labels, cuts), strict=True))
    total, expected = moments.total(), fidfast.Moments(features.shape[1])
    expected.update(features)
    assert total.num_samples == len(features)
    ours, theirs = total.stats(), expected.stats()
    np.testing.assert_allclose(ours.sigma, theirs.sigma, rtol=0, atol=CLOSE * np.trace(theirs.sigma))
    np.testing.assert_allclose(ours.mu, theirs.mu, rtol=0, atol=CLOSE * np.abs(theirs.mu).max())


LABELS = [3, 1, 3, -2, 1, 3]


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        tuple(LABELS),
        np.array(LABELS),
        np.array(LABELS, dtype=np.int8),
        np.array(LABELS, dtype=">i4"),
        np.array([0, *LABELS, 0])[1:-1],
        torch.tensor(LABELS),
        torch.tensor(LABELS, dtype=torch.int32),
        [torch.tensor(label) for label in LABELS],
    ],
)
def test_labels_may_be_any_integers(rng, labels):
    features = rng.standard_normal((6, 2))
    moments = moments_of((features, labels))
    assert moments == moments_of((features, LABELS))
    assert [(label, moments[label].num_samples) for label in moments] == [(-2, 1), (1, 2), (3, 3)]
    assert [type(label) for label in moments] == [int] * 3
    assert moments[np.int64(3)] is moments[3]


def test_labels_may_be_any_strings(rng):
    features = rng.standard_normal((4, 2))
    labels = ["dog", "cat", "дог", "dog"]
    expected = moments_of((features, labels))
    assert list(expected) == ["cat", "dog", "дог"]
    for same in (np.array(labels), np.array(labels, dtype=object), tuple(labels)):
        assert moments_of((features, same)) == expected
    assert "cat" in expected
    assert "bird" not in expected
    assert len(expected) == 3


@pytest.mark.parametrize("label", [7, np.uint8(7), torch.tensor(7), "seven"])
def test_one_label_for_all_rows(rng, label):
    features = rng.standard_normal((9, 2))
    moments = moments_of((features, label))
    assert moments == moments_of((features, [label] * 9))
    assert len(moments) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_give_the_same_moments_as_arrays(rng, dtype):
    tensor = torch.from_numpy(rng.standard_normal((50, 8))).to(dtype)
    labels = rng.integers(0, 5, 50)
    rows = tensor.double().numpy()
    values = rows if dtype is torch.float64 else rows.astype(np.float32)
    expected = moments_of((values, labels))
    for same in (tensor, tensor.t().contiguous().t(), tensor.clone().requires_grad_()):
        assert moments_of((same, torch.from_numpy(labels))) == expected
    if dtype is torch.bfloat16:
        assert moments_of((rows.astype(ml_dtypes.bfloat16), labels)) == expected


class AsArray:
    """Like a data frame: `__array__`, but neither DLPack nor the indexing of arrays."""

    def __init__(self, array):
        self.array, self.calls = array, 0

    def __array__(self, dtype=None, copy=None):
        self.calls += 1
        return self.array


def test_data_frames_are_converted_once(rng):
    features, labels = rng.standard_normal((3000, 3)), rng.integers(0, 5, 3000)
    frame = AsArray(features)
    assert moments_of((frame, labels), dim=3) == moments_of((features, labels))
    assert frame.calls == 1


# Rejected input -----------------------------------------------------------------------------------------------------


def with_infinity():
    """Row 4, the only one of the last class, is infinite."""
    features = np.ones((6, 3))
    features[4, 1] = np.inf
    return features


@pytest.mark.parametrize(
    ("features", "labels", "error", "message"),
    [
        (with_infinity(), [0, 0, 1, 1, 8, 1], ValueError, "features hold NaN or infinity; the first such row is 4"),
        (np.ones((6, 2)), LABELS, ValueError, "features have 2 columns, but ClassMoments was created with dim=3"),
        (np.ones((6, 3), dtype=int), LABELS, TypeError, "features must be float16, bfloat16, float32 or float64, got"),
        ([[1.0] * 3] * 6, LABELS, TypeError, "features must be an array or tensor (n, dim), got list"),
        (np.ones((5, 3)), LABELS, ValueError, "labels have 6 entries, but features have 5 rows"),
        (np.ones((6, 3)), [], ValueError, "labels have 0 entries, but features have 6 rows"),
        (np.ones((6, 3)), [LABELS], ValueError, "labels must be 1-D (n,), got shape (1, 6)"),
        (np.ones((6, 3)), np.ones(6), TypeError, "labels must be integers or strings, got float64"),
        (np.ones((6, 3)), np.ones(6, dtype=bool), TypeError, "labels must be integers or strings, got bool"),
        (np.ones((6, 3)), [None] * 6, TypeError, "labels must be integers or strings, got object"),
        (np.ones((6, 3)), None, TypeError, "labels must be integers or strings, got object"),
        (np.ones((2, 3)), ["cat", 1], TypeError, "labels must be integers or strings, got a mixture"),
        (np.ones((2, 3)), [[1, 2], [1]], TypeError, "labels must be an array, tensor or list (n,): "),
        (np.ones((2, 3)), torch.ones(2, device="meta"), TypeError, "labels must be an array, tensor or list (n,): "),
        (np.ones((1, 3)), np.array([2**63], dtype=np.uint64), ValueError, "labels must be below 2^63, got 922337203"),
        (np.ones((2, 3)), ["cat", "dog"], TypeError, "labels must be all integers or all strings, got 'cat' after 0"),
    ],
)
def test_rejected_batches_change_nothing(features, labels, error, message):
    moments = moments_of((np.ones((4, 3)), [0, 0, 1, 9]))
    before = copy.copy(moments)
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        moments.update(features, labels)
    assert moments == before


@pytest.mark.parametrize("label", [10, -1, "cat"])
def test_labels_must_be_below_num_classes(label):
    moments = moments_of((np.ones((4, 3)), [0, 0, 1, 9]), num_classes=10)
    before = copy.copy(moments)
    message = f"^labels must be integers from 0 to num_classes - 1 = 9, got {label!r}$"
    with pytest.raises(ValueError, match=message):
        moments.update(np.ones((2, 3)), [label, label])
    assert moments == before


@pytest.mark.parametrize("labels", [[], np.empty(0, dtype=int), 3, "cat"])
def test_batch_without_rows_changes_nothing(labels):
    moments = moments_of((np.empty((0, 3)), labels))
    assert moments == ClassMoments(3)
    assert moments.num_samples == 0


def test_constructor_and_statistics(rng):
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        ClassMoments(0)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        ClassMoments(3, num_classes=0)
    with pytest.raises(ValueError, match="precision must be 'float32' or 'float64', got 'half'"):
        ClassMoments(3, precision="half")
    moments = moments_of((rng.standard_normal((4, 3)), [0, 0, 0, 5]), precision="float64", extractor="tower")
    assert moments.stats(0).extractor == moments.total().extractor == "tower"
    assert moments.stats(0, ddof=0).ddof == 0
    assert moments[5].precision == moments.total().precision == "float64"
    with pytest.raises(KeyError, match="class 7 has no rows"):
        moments.stats(7)
    with pytest.raises(ValueError, match=r"^class 5: a covariance needs at least 2 samples, got 1$"):
        moments.stats(5)


def test_merge_rejects_moments_that_do_not_fit(rng):
    moments = moments_of((np.ones((2, 3)), [0, 1]), extractor="one")
    before = copy.copy(moments)
    for other, error, message in (
        (ClassMoments(5), ValueError, "cannot merge moments of dim=5 and dim=3"),
        (ClassMoments(3, num_classes=2), ValueError, "cannot merge moments of num_classes=None and num_classes=2"),
        (ClassMoments(3, extractor="two"), ValueError, "cannot merge moments of the extractors 'one' and 'two'"),
        (moments_of((np.ones((1, 3)), "cat")), TypeError, "labels must be all integers or all strings, got 'cat' aft"),
    ):
        with pytest.raises(error, match=message):
            moments.merge(other)
        assert moments == before
    with pytest.raises(TypeError):
        moments + 1
    with pytest.raises(TypeError):
        moments += 1


def test_merge_adopts_the_extractor_for_all_classes(rng):
    moments = moments_of((np.ones((2, 3)), [0, 1]))
    moments.merge(moments_of((np.ones((2, 3)), [1, 2]), extractor="tower"))
    assert moments.extractor == "tower"
    assert [moments[label].extractor for label in moments] == ["tower"] * 3


def test_merge_with_itself_doubles_every_class(rng):
    moments = moments_of((rng.standard_normal((50, 3)), rng.integers(0, 3, 50)))
    before = {label: moments[label].num_samples for label in moments}
    moments.merge(moments)
    assert {label: moments[label].num_samples for label in moments} == {k: 2 * n for k, n in before.items()}


# Files and copies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 20, 3000])
@pytest.mark.parametrize("names", [None, np.array(["cat", "dog", "bird"])])
def test_copies_pickles_and_checkpoints_continue_identically(rng, tmp_path, n, names):
    features, labels = rng.standard_normal((n + 500, 24)), rng.integers(0, 3, n + 500)
    if names is not None:
        labels = names[labels]
    num_classes = 5 if names is None else None
    options = {"num_classes": num_classes, "precision": "float64", "extractor": "tower"}
    original = moments_of((features[:n], labels[:n]), **options)
    original.save(tmp_path / "run")
    copies = {
        "copy": copy.copy(original),
        "deepcopy": copy.deepcopy(original),
        "pickle": pickle.loads(pickle.dumps(original)),
        "checkpoint": ClassMoments.load(tmp_path / "run.npz"),
    }
    untouched = copy.copy(original)
    original.update(features[n:], labels[n:])
    for name, other in copies.items():
        assert other == untouched, name
        assert (other.num_classes, other.precision, other.extractor) == (num_classes, "float64", "tower")
        num_seen = 0 if n == 0 else 3
        assert repr(other) == (
            f"ClassMoments(dim=24, classes={num_seen}, num_samples={n}, precision='float64', extractor='tower')"
        )
        other.update(features[n:], labels[n:])
        assert other == original, name
    original.reset()
    assert original == ClassMoments(24, **options)


def test_equality(rng):
    rows = rng.standard_normal((4, 3))
    base = moments_of((rows, [0, 0, 1, 1]))
    assert base == moments_of((rows, [0, 0, 1, 1]))
    assert base != moments_of((rows, [0, 1, 1, 1]))
    assert base != moments_of((rows, [0, 0, 1, 1]), num_classes=2)
    assert base != moments_of((rows, [0, 0, 1, 1]), extractor="tower")
    assert base != moments_of((rows, [0, 0, 2, 2]))
    assert base != dict(base)
    with pytest.raises(TypeError):
        hash(base)


def test_damaged_checkpoints_are_rejected(rng, tmp_path):
    path = tmp_path / "a.npz"
    moments_of((rng.standard_normal((30, 3)), rng.integers(0, 2, 30))).save(path)
    with np.load(path, allow_pickle=False) as archive:
        entries = {key: archive[key] for key in archive}
    for damage, message in (
        ({"labels": None}, "a.npz: the state of ClassMoments has no 'labels'"),
        ({"1/0/wide_rows": None}, "a.npz: the state of ClassMoments has no '0/wide_rows'"),
        ({"labels": np.arange(3)}, "a.npz: 'labels' must be as many as the classes, 2"),
        ({"dim": np.array(4)}, "a.npz: the state of ClassMoments has dim 4, but class 0 has dim 3"),
    ):
        kept = {key: value for key, value in {**entries, **damage}.items() if value is not None}
        np.savez(path, **kept)
        with pytest.raises(ValueError, match=message):
            ClassMoments.load(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"a\.npz is damaged or not a \.npz file"):
        ClassMoments.load(path)


def test_info_command(tmp_path, capsys):
    ClassMoments(3).save(tmp_path / "a.npz")
    main(["info", str(tmp_path / "a.npz")])
    assert re.search(r"^holds +a checkpoint of ClassMoments$", capsys.readouterr().out, re.MULTILINE)


def test_updates_from_several_threads(rng):
    features, labels = rng.standard_normal((8000, 8)), rng.integers(0, 50, 8000)
    batches = list(zip(np.array_split(features, 160), np.array_split(labels, 160), strict=True))
    moments = ClassMoments(8)

    def work(mine):
        for batch in mine:
            moments.update(*batch)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require_close(moments, one_by_one(features, labels.tolist()))


def test_docstring_examples():
    assert doctest.testmod(sys.modules["fidfast._stats.class_moments"]).failed == 0
