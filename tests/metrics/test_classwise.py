"""`class_distances`: the distances of each class, missing classes, rejected arguments."""

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, class_distances


def moments_of(features, labels, **options):
    moments = ClassMoments(features.shape[1], **options)
    moments.update(features, labels)
    return moments


@pytest.mark.parametrize("dim", [6, 80])
def test_distances_equal_those_of_each_class_alone(rng, dim):
    a, b = rng.standard_normal((300, dim)), rng.standard_normal((200, dim)) * 1.2
    labels_a, labels_b = rng.integers(0, 4, 300), rng.integers(0, 4, 200)
    result = class_distances(moments_of(a, labels_a), moments_of(b, labels_b))
    expected = {label: fidfast.fid(a[labels_a == label], b[labels_b == label]) for label in range(4)}
    assert result.distances == pytest.approx(expected, rel=1e-10)
    assert result.mean == pytest.approx(np.mean(list(expected.values())), rel=1e-10)
    assert result.num_samples == {k: (np.sum(labels_a == k), np.sum(labels_b == k)) for k in range(4)}
    assert result.skipped == ()


def test_distance_of_equal_moments_is_zero(rng):
    moments = moments_of(rng.standard_normal((100, 5)), rng.integers(0, 3, 100))
    assert class_distances(moments, moments).mean == pytest.approx(0, abs=1e-12)


def test_classes_with_too_few_rows_are_named_or_skipped(rng):
    a = moments_of(rng.standard_normal((9, 3)), [0, 0, 0, 1, 1, 2, 3, 3, 3])
    b = moments_of(rng.standard_normal((8, 3)), [0, 0, 1, 2, 2, 3, 3, 7])
    with pytest.raises(ValueError) as caught:
        class_distances(a, b)
    assert str(caught.value) == (
        "3 of 5 classes have fewer than 2 rows in samples or reference: 1 (2 and 1), 2 (1 and 2), 7 (0 and 1); "
        "use skip_incomplete=True to skip them"
    )
    result = class_distances(a, b, skip_incomplete=True)
    assert result.skipped == (1, 2, 7)
    assert list(result.distances) == [0, 3]
    assert result.mean == sum(result.distances.values()) / 2
    assert result.num_samples == {0: (3, 2), 1: (2, 1), 2: (1, 2), 3: (3, 2), 7: (0, 1)}


def test_classes_below_num_classes_are_required(rng):
    rows = rng.standard_normal((4, 3))
    declared, seen = moments_of(rows, [0, 0, 1, 1], num_classes=3), moments_of(rows, [0, 0, 1, 1])
    assert class_distances(seen, seen).skipped == ()
    for pair in ((declared, seen), (seen, declared), (declared, declared)):
        with pytest.raises(ValueError, match=r"1 of 3 classes have fewer than 2 rows .*: 2 \(0 and 0\)"):
            class_distances(*pair)
        assert class_distances(*pair, skip_incomplete=True).skipped == (2,)


def test_long_lists_of_missing_classes_are_shortened(rng):
    a = moments_of(rng.standard_normal((100, 2)), np.arange(100) // 2)
    b = moments_of(rng.standard_normal((2, 2)), [0, 0])
    with pytest.raises(
        ValueError, match=r"49 of 50 classes .*: 1 \(2 and 0\), .*, 20 \(2 and 0\) and 29 more; use skip_"
    ):
        class_distances(a, b)


def test_rejected_arguments(rng):
    rows = rng.standard_normal((4, 3))
    a = moments_of(rows, 0, extractor="one")
    with pytest.raises(ValueError, match=r"^samples has dim 3, but reference has dim 2$"):
        class_distances(a, ClassMoments(2))
    with pytest.raises(ValueError, match=r"^1 of 1 classes have fewer than 2 rows .*: 0 \(4 and 0\)$"):
        class_distances(a, ClassMoments(3), skip_incomplete=True)
    with pytest.raises(ValueError, match=r"^samples and reference hold no classes$"):
        class_distances(ClassMoments(3), ClassMoments(3))
    with pytest.raises(TypeError, match="labels must be all integers or all strings, got 0 and 'cat'"):
        class_distances(a, moments_of(rows, "cat"))
    with pytest.raises(TypeError, match=r"^reference must be ClassMoments or a path, got ndarray$"):
        class_distances(a, rows)
    with pytest.warns(UserWarning, match="different extractors, 'one' and 'two'") as caught:
        class_distances(a, moments_of(rows, 0, extractor="two"))
    assert caught[0].filename == __file__


def test_distances_of_files(rng, tmp_path):
    a = moments_of(rng.standard_normal((30, 3)), rng.integers(0, 2, 30))
    b = moments_of(rng.standard_normal((30, 3)), rng.integers(0, 2, 30))
    a.save(tmp_path / "a.npz")
    b.save(tmp_path / "b.npz")
    assert class_distances(tmp_path / "a.npz", str(tmp_path / "b.npz")) == class_distances(a, b)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*gone\.npz"):
        class_distances(tmp_path / "gone.npz", b)
    np.save(tmp_path / "rows.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"^reference: .*holds features, not a checkpoint of ClassMoments"):
        class_distances(a, tmp_path / "rows.npy")
    with pytest.raises(ValueError, match=r"features_b: .*holds a checkpoint of ClassMoments, not statistics or featur"):
        fidfast.fid(np.zeros((3, 3)), tmp_path / "a.npz")
