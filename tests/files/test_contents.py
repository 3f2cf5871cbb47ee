"""Files that this package writes, with one entry changed: refused with the names of the file and the entry."""

import copy
import json
import pickle

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, GaussianStats, InceptionScore, Moments, NgramCounts
from fidfast._files import State, read, write_state

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((30, 4))


def moments(rows=ROWS, **options):
    result = Moments(4, extractor="net", **options)
    result.update(rows)
    return result


def classes(labels):
    result = ClassMoments(4, num_classes=3 if isinstance(labels[0], int) else None)
    result.update(ROWS, np.array(labels * 10))
    return result


def ngrams(level):
    result = NgramCounts(2, level=level)
    result.update(["a banana and a cabana"])
    return result


COLLECTORS = {
    "rows": lambda: moments(ROWS[:3].astype(np.float32)),
    "folded": lambda: moments(np.concatenate([RNG.standard_normal((1024, 4)), ROWS])),
    "blocks": lambda: moments(blocks=2),
    "classes": lambda: classes([0, 2, 1]),
    "named classes": lambda: classes(["b", "a", "c"]),
    "score": lambda: score_of(20),
    "score in splits of a size": lambda: score_of(20, splits=None, split_size=7, length=None),
    "characters": lambda: ngrams("char"),
    "words": lambda: ngrams("word"),
}


def score_of(n, **options):
    rows = np.abs(ROWS[:n, :3])
    result = InceptionScore(3, from_logits=False, **{"splits": 2, "length": 20, **options})
    result.update(rows / rows.sum(axis=1, keepdims=True))
    return result


def changes(value):
    """Wrong values of one entry."""
    yield None
    yield np.array("text") if value.dtype.kind != "U" or value.ndim else np.array(3)
    yield np.array([["x"]])
    yield value.astype(np.complex128) if value.dtype.kind != "U" else value.astype("S")
    yield value[..., np.newaxis]
    if value.ndim and value.size:
        yield value[:-1]
        yield np.concatenate([value, value])
    if value.dtype.kind in "iu":
        yield value.astype(np.float64)
        yield np.asarray(value + 0.5)
        for number in (-3, 2**62, -(2**62)):
            changed = np.array(value, np.int64)
            changed.reshape(-1)[:1] = number
            yield changed
    if value.dtype.kind == "f" and value.size:
        for number in (np.nan, np.inf, -np.inf):
            for place in (0, -1):
                changed = np.array(value)
                changed.reshape(-1)[place] = number
                yield changed


def is_another_state(key, changed):
    """Whether a changed entry is that of other data, for example other numbers of rows, or other words."""
    name = key.split("/")[-1]
    if changed is None:
        return name == "split_size"  # a fixed number of splits
    if name.endswith("_rows") and changed.dtype.kind == "f" and changed.ndim == 2:
        return bool(np.isfinite(changed).all())
    if name in ("count", "num_classes"):
        return changed.dtype.kind == "i" and changed.shape == () and changed >= 4
    if name == "stream":  # another length
        return changed.dtype.kind == "i" and changed.shape == (3,) and changed[0] >= 20
    return (name == "words" and changed.dtype == np.uint8 and changed.ndim == 1) or (
        name in ("extractor", "precision") and changed.dtype.kind == "U"
    )


@pytest.mark.parametrize("name", COLLECTORS)
def test_every_change_of_an_entry_is_refused(tmp_path, name):
    """By `from_state`, which unpickling calls too; and by `load`, here for one change of each entry."""
    path, collector = tmp_path / "x.npz", COLLECTORS[name]()
    kind, state = type(collector), collector.state()
    for key, value in state.items():
        if key.endswith("product_errors") or key[:2] in ("1/", "2/"):  # optional; as "0/"
            continue
        refused = [changed for changed in changes(np.asarray(value)) if not is_another_state(key, changed)]
        for number, changed in enumerate(refused):
            entries = {name: entry for name, entry in {**state, key: changed}.items() if entry is not None}
            with pytest.raises((KeyError, ValueError)) as caught:
                kind.from_state(entries)
            assert any(name.split("/")[-1] in str(caught.value) for name in state), (key, changed)
            if number == 1:
                write_state(path, State(kind.__name__, entries))
                with pytest.raises(ValueError, match=r"x\.npz: "):
                    kind.load(path)
    write_state(path, State(kind.__name__, {**state, "more": np.array(1)}))
    with pytest.raises(ValueError, match=r"x\.npz.*'more' is not an entry"):
        kind.load(path)


@pytest.mark.parametrize("name", COLLECTORS)
def test_unchanged_states_are_accepted(tmp_path, name):
    collector = COLLECTORS[name]()
    collector.save(tmp_path / "x.npz")
    for other in (
        type(collector).load(tmp_path / "x.npz"), copy.copy(collector), pickle.loads(pickle.dumps(collector))
    ):  # fmt: skip
        assert other == collector
    empty = type(collector).from_state(collector.state())
    empty.reset()
    assert type(collector).from_state(empty.state()) == empty


@pytest.mark.parametrize("scale", [1e-160, 1e-150, 1e-3, 1e3, 1e150])
def test_states_of_any_scale_are_accepted(tmp_path, scale):
    rng = np.random.default_rng(1)
    rows = scale * rng.standard_normal((1100, 4)) * [1, 1e-9, 0, 1]
    Moments.from_features(rows).save(tmp_path / "x.npz")
    assert Moments.load(tmp_path / "x.npz") == Moments.from_features(rows)


def test_states_after_any_operations_are_accepted(tmp_path):
    rng = np.random.default_rng(2)
    for dim in (3, 40):
        total, parts = Moments(dim), []
        for _ in range(20):
            n, dtype = int(rng.integers(0, 60)) if rng.random() < 0.9 else 1100, rng.choice([np.float32, np.float64])
            rows = (rng.standard_normal((n, dim)) * 10 ** rng.uniform(-3, 3) + 10 ** rng.uniform(-3, 3)).astype(dtype)
            parts.append(Moments.from_features(rows))
            total.merge(parts[-1])
            if rng.random() < 0.3:
                total.unmerge(parts.pop(int(rng.integers(len(parts)))))
        total.save(tmp_path / "x.npz")
        assert Moments.load(tmp_path / "x.npz") == total


CONTRADICTIONS = {
    "negative variance": ("folded", {"0/scatter": -np.eye(4)}),
    "correlation above 1": ("folded", {"0/scatter": np.eye(4) + 2 * np.eye(4, k=1)}),
    "indefinite": ("folded", {"0/scatter": np.eye(4) - 0.9 * (np.ones((4, 4)) - np.eye(4))}),
    "scatter without rows": ("rows", {"0/scatter": np.eye(4), "0/mean": np.zeros(4), "0/mean_low": np.zeros(4)}),
    "rows that are pending": ("folded", {"0/wide_rows": np.zeros((1025, 4))}),
    "unordered labels": ("classes", {"labels": np.array([1, 0, 2])}),
    "equal labels": ("classes", {"labels": np.array([0, 1, 1])}),
    "labels above num_classes": ("classes", {"labels": np.array([0, 1, 3])}),
    "labels of strings": ("classes", {"labels": np.array(["a", "b", "c"])}),
    "extractor of a class": ("classes", {"1/extractor": np.array("other")}),
    "probabilities": ("score", {"probabilities": np.full((2, 3), 5.0)}),
    "information": ("score", {"information": np.full(2, 3.0)}),
    "low information": ("score", {"information": np.full(2, -20.0)}),
    "counts above length": ("score", {"counts": np.array([11, 9])}),
    "next row": ("score", {"stream": np.array([20, 5, 0])}),
    "length": ("score", {"stream": np.array([10, 0, 20])}),
    "count of 0": ("characters", {"counts": 0}),
    "total": ("characters", {"num_ngrams": np.array(7)}),
    "overflow": ("characters", {"counts": 2**62}),
    "equal n-grams": ("characters", {"ngrams": 97}),
    "characters": ("characters", {"ngrams": 0x110000}),
    "words": ("words", {"ngrams": 99}),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictory_states_are_refused(tmp_path, name):
    collector, change = CONTRADICTIONS[name]
    collector = COLLECTORS[collector]()
    state = collector.state()
    for key, value in change.items():
        whole = isinstance(value, int)
        state[key] = np.full_like(state[key], value, dtype=np.uint64) if whole else value
    write_state(tmp_path / "x.npz", State(type(collector).__name__, state))
    with pytest.raises(
        ValueError, match=r"x\.npz: .*(" + "|".join(key.split("/")[-1] for key in change) + "|distinct)"
    ):
        type(collector).load(tmp_path / "x.npz")


def test_versions_and_progress(tmp_path):
    path, state = tmp_path / "x.npz", moments().state()
    for version, message in (("0.99.0", "upgrade fidfast"), ("999.0", "upgrade fidfast"), ("x", "must be a version")):
        np.savez(path, fidfast_state="Moments", fidfast_version=version, **state)
        with pytest.raises(ValueError, match=rf"x\.npz: .*{message}"):
            Moments.load(path)
    np.savez(path, fidfast_state="Other", fidfast_version="0.1.0", **state)
    with pytest.raises(ValueError, match=r"x\.npz: the class of a checkpoint must be Moments, .* got 'Other'"):
        read(path)
    changes_of_progress = [("done", -1), ("done", 2.5), ("done", "3"), ("job", 3), ("skipped", [1]), ("skipped", 5)]
    for change in [*changes_of_progress, ("more", 1)]:
        progress = json.dumps({"job": "a", "done": 3, "skipped": [], **dict([change])})
        np.savez(path, fidfast_state="Moments", fidfast_version="0.1.0", progress=progress, **state)
        with pytest.raises(ValueError, match=r"x\.npz"):
            read(path)


# Statistics ---------------------------------------------------------------------------------------------------------

STATS = {
    "mu": [[np.nan] * 4, [np.inf] * 4, np.zeros(3), np.zeros((4, 1)), np.zeros(4, complex), ["a"] * 4, 0.0],
    "sigma": [
        -np.eye(4), np.full((4, 4), np.nan), np.eye(4) + np.eye(4, k=1), 2 * np.ones((4, 4)) - np.eye(4) * 3,
        np.eye(3), np.eye(4)[:3], np.eye(4, dtype=complex), [["a"] * 4] * 4,
    ],
    "num_samples": [-1, 0, 1, 2.5, np.nan, np.inf, 1e300, 2**63, [1, 2], "x", 2j],
    "ddof": [-1, 30, 2.5, np.nan, "x", [1, 2]],
    "extractor": [3.5, ["a", "b"], 2j],
    "product_errors": [[-1.0] * 4, [np.nan] * 4, np.zeros(3), ["a"] * 4, np.zeros((4, 1))],
}  # fmt: skip


@pytest.mark.parametrize("key", STATS)
def test_changed_statistics_are_refused(tmp_path, key):
    path, entries = tmp_path / "x.npz", {}
    moments().stats().save(path)
    with np.load(path) as archive:
        entries = dict(archive)
    for value in STATS[key]:
        np.savez(path, **{**entries, key: value})
        with pytest.raises(ValueError, match=r"x\.npz") as caught:
            GaussianStats.load(path)
        assert key in str(caught.value), value
        with pytest.raises(ValueError, match=r"features_a: .*x\.npz"):
            fidfast.fid(path, ROWS)
