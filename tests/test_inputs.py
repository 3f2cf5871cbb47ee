"""One test for each row of docs/input.md: accepted and rejected input, and the error messages."""

import copy
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import fidfast
from fidfast import GaussianStats, Moments

TABLE = Path(__file__).parents[1] / "docs" / "input.md"
ROWS = np.random.default_rng(1).standard_normal((20, 5))


def documented():
    """The rows of the first table: input -> result."""
    text = TABLE.read_text(encoding="utf-8").partition("\n## ")[0]
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    return dict(line.split(" | ", 1) for line in lines[1:])


def update(features):
    """Moments that are updated with the features; if these are rejected, they must not change."""
    moments = Moments(5)
    moments.update(ROWS)
    before = copy.copy(moments)
    try:
        moments.update(features)
    except Exception:
        assert moments == before
        raise
    return moments


def with_nan():
    rows = ROWS.copy()
    rows[7, 3], rows[11, 0] = np.nan, np.inf
    return rows


class OnAnotherDevice:
    """A tensor on a Metal GPU."""

    def __dlpack_device__(self):
        return (8, 0)

    def __dlpack__(self, **_):
        raise AssertionError("must not be called")


def eye(dim):
    return np.eye(dim), np.zeros(dim)


REJECTED = {
    "features of 1 or 3 dimensions": lambda: update(np.zeros(4)),
    "features without columns": lambda: update(np.zeros((4, 0))),
    "features with another number of columns": lambda: update(np.zeros((4, 3))),
    "a distance of a single sample": lambda: fidfast.fid(ROWS[:1], ROWS),
    "NaN or infinity": lambda: update(with_nan()),
    "numbers above 2.6e151 in `Moments`": lambda: update(np.where(np.arange(20)[:, np.newaxis] == 5, 1e155, ROWS)),
    "features whose distance float64 cannot represent": lambda: fidfast.fid(np.eye(5) * 1e200, -np.eye(5)),
    "a distance of statistics above 1.8e308": lambda: fidfast.frechet_distance(
        GaussianStats(np.full(5, 1e200), np.eye(5)), GaussianStats(np.zeros(5), np.eye(5))
    ),
    "masked arrays": lambda: update(np.ma.masked_array(ROWS, np.arange(100).reshape(20, 5) == 7)),
    "integers, bool, complex": lambda: update(np.zeros((4, 5), dtype=np.int64)),
    "object arrays, strings": lambda: update(np.zeros((4, 5), dtype=object)),
    "lists, numbers, None": lambda: update([[1.0] * 5]),
    "images where features are needed": lambda: fidfast.kid(np.zeros((20, 8, 8, 3), np.uint8), ROWS),
    "tensors on another device": lambda: update(OnAnotherDevice()),
    "sparse, nested and quantized tensors, SciPy's sparse arrays": lambda: update(torch.eye(5).to_sparse()),
    "tensors without data (`meta`, fake)": lambda: update(torch.zeros(4, 5, device="meta")),
    "two arguments of different dim": lambda: fidfast.fid(ROWS[:, :3], ROWS),
    "`dim` below 1": lambda: Moments(0),
    "an argument of a wrong type": lambda: fidfast.kid(ROWS, ROWS, degree=2.5),
    "an unknown precision": lambda: Moments(5, precision="half"),
    "`ddof` not below num_samples": lambda: moments_of(ROWS[:5]).stats(ddof=5),
    "moments of another dim to merge": lambda: moments_of(ROWS).merge(moments_of(ROWS[:, :3])),
    "`mu` that is not 1-D": lambda: GaussianStats([[0.0, 0.0]], np.eye(2)),
    "`mu` of another length": lambda: GaussianStats(np.zeros(3), np.eye(2)),
    "`sigma` that is not square": lambda: GaussianStats(np.zeros(2), np.zeros((2, 3))),
    "`sigma` that is not 2-D": lambda: GaussianStats(np.zeros(2), np.zeros(2)),
    "`sigma` that is not symmetric": lambda: GaussianStats(np.zeros(2), [[1, 0.1], [0.5, 1]]),
    "`sigma` that is not positive semidefinite": lambda: GaussianStats(np.zeros(2), [[1, 2], [2, 1]]),
    "NaN or infinity in `mu` or `sigma`": lambda: GaussianStats(np.zeros(2), [[1, 0], [np.nan, 1]]),
    "complex or textual `mu` or `sigma`": lambda: GaussianStats(np.zeros(2), np.eye(2) * 1j),
    "`num_samples` below 2": lambda: GaussianStats(np.zeros(2), np.eye(2), num_samples=1),
}


def moments_of(rows):
    moments = Moments(rows.shape[1])
    moments.update(rows)
    return moments


def documented_error(row):
    """Type and message of the documented error."""
    kind, message = re.fullmatch(r"`(\w+): (.*)`", documented()[row]).groups()
    return {"ValueError": ValueError, "TypeError": TypeError, "FileNotFoundError": FileNotFoundError}[kind], message


@pytest.mark.parametrize("row", REJECTED)
def test_rejected_with_the_documented_message(row):
    kind, message = documented_error(row)
    with pytest.raises(kind) as caught:
        REJECTED[row]()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "features",
    [
        *(np.zeros((2, 5, 1)), np.zeros(()), torch.zeros(5), np.zeros((4, 6)), torch.zeros(4, 0)),
        *(torch.zeros(2, 5).bool(), torch.zeros(4, 5).int(), np.zeros((1, 5)) * 1j, np.full((2, 5), "a")),
        *(np.zeros((2, 5), dtype=np.longdouble), 3.0, None),
    ],
)
def test_other_rejected_features(features):
    with pytest.raises((TypeError, ValueError), match=r"^features (must|have)"):
        update(features)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_first_row_with_nan_is_named_for_every_dtype(value, dtype):
    tensor = torch.zeros(3000, 5, dtype=dtype)
    tensor[1100, 4] = tensor[2000, 0] = value
    for features in (tensor, tensor.t().contiguous().t()):
        with pytest.raises(ValueError, match="the first such row is 1100"):
            update(features)


def test_a_batch_without_rows():
    moments = update(np.zeros((0, 5)))
    assert moments == moments_of(ROWS)
    assert documented()["a batch without rows"] == "accepted, changes nothing"
    with pytest.raises(ValueError, match="features have 3 columns"):
        update(np.zeros((0, 3)))


def field_of_records():
    records = np.zeros(20, dtype=[("pad", "u1"), ("x", "<f8", (5,))])
    records["x"] = ROWS
    return records["x"]


class Frame:
    """The part of a data frame that is used."""

    shape = ROWS.shape

    def __array__(self, dtype=None, copy=None):
        return ROWS


def read_only():
    rows = ROWS.copy()
    rows.flags.writeable = False
    return rows


ACCEPTED = {
    "Fortran order": lambda _: np.asfortranarray(ROWS),
    "negative and other strides": lambda _: np.repeat(ROWS, 3, axis=1)[::-1, ::-3][::-1, ::-1],
    "read-only arrays": lambda _: read_only(),
    "masked arrays without masked values": lambda _: np.ma.masked_array(ROWS, np.zeros_like(ROWS, dtype=bool)),
    "memory-mapped arrays": lambda folder: mapped(folder),
    "foreign byte order, unaligned fields": lambda _: field_of_records(),
    "tensors that require a gradient": lambda _: torch.from_numpy(ROWS).requires_grad_(),
    "conjugated and negated views of tensors": lambda _: torch.complex(*[-torch.from_numpy(ROWS)] * 2).conj().imag,
    "pooled feature maps `(n, dim, 1, 1)`": lambda _: ROWS[:, :, None, None],
    "data frames and others with `__array__`": lambda _: Frame(),
}


def mapped(folder):
    np.save(folder / "rows.npy", ROWS)
    return np.load(folder / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("row", ACCEPTED)
def test_accepted_with_the_same_result(row, tmp_path):
    features = ACCEPTED[row](tmp_path)
    assert documented()[row].startswith("accepted")
    assert moments_of(features) == moments_of(ROWS)
    assert fidfast.fid(features, ROWS + 1) == fidfast.fid(ROWS, ROWS + 1)


def test_foreign_byte_order():
    assert moments_of(ROWS.astype(">f8")) == moments_of(ROWS)


FILES = {
    "a missing file": ("gone.npz", lambda path: None),
    "a truncated file": ("cut.npz", lambda path: path.write_bytes(b"PK a part")),
    "a file with other keys": ("x.npz", lambda path: np.savez(path, weight=np.ones((2, 3)))),
    "a file with an unknown suffix": ("x.csv", lambda path: path.write_text("1,2")),
    "pickled objects in a file": ("x.npz", lambda path: np.savez(path, mu=np.array([{}]), sigma=np.eye(1))),
}


@pytest.mark.parametrize("row", FILES)
def test_files(row, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, make = FILES[row]
    make(Path(name))
    kind, message = documented_error(row)
    with pytest.raises(kind) as caught:
        fidfast.fid(name, ROWS)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("row", "call", "error"),
    [("a full disk when saving", "fsync", OSError(28, "No space left on device")),
     ("no permission when saving", "replace", PermissionError(13, "Permission denied"))],
)  # fmt: skip
def test_failed_saves_keep_the_old_file(row, call, error, tmp_path, monkeypatch):
    stats = GaussianStats(*eye(2)[::-1])
    stats.save(tmp_path / "x.npz")
    before = (tmp_path / "x.npz").read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error), match=error.strerror):
        GaussianStats(np.ones(3), np.eye(3)).save(tmp_path / "x.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]
    assert (tmp_path / "x.npz").read_bytes() == before
    assert documented()[row].endswith("the old file is kept")


def test_statistics_of_different_extractors():
    a, b = (GaussianStats(np.zeros(2), np.eye(2), extractor=name) for name in ("inception", "dino"))
    message = re.fullmatch(r"`UserWarning: (.*)`", documented()["statistics of different extractors"]).group(1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fidfast.frechet_distance(a, b)
    assert [str(warning.message) for warning in caught] == [message]


#: Metrics that need rows on the first side, and what else they need.
NEED_ROWS = {
    "cmmd": (), "density_coverage": (), "fid_infinity": (), "influence": (), "kid": (), "kid_subsets": (),
    "manifold_metrics": (), "mifid": (), "precision_recall": (), "compare": (ROWS,),
}  # fmt: skip


@pytest.mark.parametrize("name", NEED_ROWS)
def test_metrics_that_need_rows(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = GaussianStats(np.zeros(5), np.eye(5))
    stats.save("x.npz")
    moments_of(ROWS).save("moments.npz")
    _, of_object = documented_error("moments or statistics where rows are needed")
    _, of_file = documented_error("a file of statistics where rows are needed")

    def error(source, kind):
        with pytest.raises(kind) as caught:
            getattr(fidfast, name)(source, *NEED_ROWS[name], ROWS)
        return str(caught.value).replace("samples_a:", "samples:").replace(f" {name} needs", " kid needs")

    assert error(stats, TypeError) == of_object
    assert error(moments_of(ROWS), TypeError) == of_object.replace("GaussianStats", "Moments")
    assert error("x.npz", ValueError) == of_file
    assert error("moments.npz", ValueError) == of_file.replace("x.npz", "moments.npz").replace(
        "statistics", "a checkpoint of Moments"
    )


@pytest.mark.parametrize("name", ["fid", "frechet_distance", "frechet_terms", "transport_map", "estimate"])
def test_metrics_of_statistics_take_any_source(name, tmp_path):
    moments = moments_of(ROWS)
    np.save(tmp_path / "rows.npy", ROWS)
    moments.save(tmp_path / "moments.npz")
    moments.stats().save(tmp_path / "stats.npz")
    metric, samples = getattr(fidfast, name), ROWS[::-1] * 2
    expected = metric(samples, moments.stats())
    for source in (moments, tmp_path / "moments.npz", tmp_path / "stats.npz", str(tmp_path / "stats.npz")):
        assert np.array_equal(metric(samples, source), expected)
    if name != "estimate":  # which takes rows as a sample
        for source in (ROWS, torch.from_numpy(ROWS), tmp_path / "rows.npy"):
            assert np.array_equal(metric(samples, source), expected)


def test_every_row_of_the_table_has_a_test():
    tested = {*REJECTED, *ACCEPTED, *FILES}
    others = {
        "a batch without rows",
        "a full disk when saving",
        "no permission when saving",
        "statistics of different extractors",
        "moments or statistics where rows are needed",
        "a file of statistics where rows are needed",
    }
    assert set(documented()) == tested | others
