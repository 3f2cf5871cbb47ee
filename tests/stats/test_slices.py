"""Features that are read in slices: an error counts the rows from the first slice, and nothing is added."""

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, Moments
from fidfast._stats import ROWS_PER_SLICE, class_moments

#: In the second slice.
BAD = ROWS_PER_SLICE + 308


@pytest.fixture
def rows():
    rows = np.ones((ROWS_PER_SLICE + 800, 2), np.float32)
    rows[BAD, 1] = np.nan
    return rows


class WithArrayOnly:
    """A data set that converts slices when they are read."""

    def __init__(self, values):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __len__(self):
        return len(self._values)

    def __getitem__(self, index):
        return WithArrayOnly(self._values[index])

    def __array__(self, dtype=None, copy=None):
        return self._values


def memory_map(rows, folder):
    np.save(folder / "rows.npy", rows)
    return np.load(folder / "rows.npy", mmap_mode="r")


FORMS = {
    "array": lambda rows, _: rows,
    "memory map": memory_map,
    "path": lambda rows, folder: memory_map(rows, folder) is None or folder / "rows.npy",
    "array interface": lambda rows, _: WithArrayOnly(rows),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_row_is_counted_from_the_first_slice(rows, tmp_path, form):
    features = FORMS[form](rows, tmp_path)
    others = np.ones((9, 2), np.float32)
    message = rf"NaN or infinity; the first such row is {BAD}$"
    if form != "path":
        with pytest.raises(ValueError, match=message):
            Moments.from_features(features)
    for function in (fidfast.fid, fidfast.frechet_terms, fidfast.estimate, fidfast.influence, fidfast.kid):
        with pytest.raises(ValueError, match=message):
            function(features, others)


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("form", ["array", "memory map", "array interface"])
def test_a_batch_is_added_completely_or_not_at_all(rows, tmp_path, form, blocks):
    features = FORMS[form](rows, tmp_path)
    moments = Moments(2, blocks=blocks)
    moments.update(np.eye(2))
    before = moments.state()
    with pytest.raises(ValueError, match=rf"the first such row is {BAD}$"):
        moments.update(features)
    for key, value in moments.state().items():
        np.testing.assert_array_equal(value, before[key])


def test_a_labelled_batch_is_added_completely_or_not_at_all(rows):
    assert class_moments._ROWS_PER_SORT < BAD  # the row is in another slice of the classes
    moments = ClassMoments(2)
    with pytest.raises(ValueError, match=rf"the first such row is {BAD}$"):
        moments.update(rows, np.arange(len(rows)) % 3)
    assert moments.num_samples == 0
    assert len(moments) == 0
