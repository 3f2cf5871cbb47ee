"""What the host does with features of a GPU: all of it without the extension, and what has no other way."""

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

import fidfast
from fidfast import Moments, devices


def test_features_are_copied_to_the_host_where_there_is_no_extension(rng, not_built, monkeypatch):
    """In blocks of rows, so that the host never holds more."""
    monkeypatch.setattr(devices, "_ROWS_AT_A_TIME", 7)
    rows, others = rng.standard_normal((30, 4)), rng.standard_normal((25, 4)) + 0.5
    there = DeviceArray(rows), DeviceArray(others)
    seen = []
    on_host = devices.on_host
    monkeypatch.setattr(devices, "on_host", lambda features: (seen.append(len(features)), on_host(features))[1])
    moments, expected = Moments(4, "float64"), Moments(4, "float64")
    moments.update(there[0])
    assert seen == [7, 7, 7, 7, 2]
    expected.update(rows)
    assert moments == expected
    in_blocks, kept = Moments(4, "float64", blocks=3), Moments(4, "float64", blocks=3)
    in_blocks.update(there[0])
    for first in range(0, 30, 7):
        kept.update(rows[first : first + 7])
    assert in_blocks == kept
    assert fidfast.fid(*there) == pytest.approx(fidfast.fid(rows, others), rel=1e-12)  # in other blocks
    estimates = fidfast.estimate(*there), fidfast.estimate(rows, others)
    assert estimates[0].stderr == pytest.approx(estimates[1].stderr, rel=1e-10)  # of differences
    np.testing.assert_allclose(fidfast.influence(*there), fidfast.influence(rows, others), rtol=0, atol=1e-10)


@pytest.mark.parametrize("built", [True, False])
def test_what_works_on_the_host_alone_takes_features_of_a_gpu(rng, request, extension, built):
    if not built:
        request.getfixturevalue("not_built")
    rows, others = rng.standard_normal((40, 4)), rng.standard_normal((30, 4)) + 0.5
    there = DeviceArray(rows), DeviceArray(others)
    assert fidfast.kid(*there) == fidfast.kid(rows, others)
    assert fidfast.precision_recall(*there) == fidfast.precision_recall(rows, others)
    assert fidfast.mifid(*there) == fidfast.mifid(rows, others)
    assert fidfast.density_coverage(*there) == fidfast.density_coverage(rows, others)
    assert fidfast.cmmd(*there) == fidfast.cmmd(rows, others)
    assert fidfast.inception_score(there[0]) == fidfast.inception_score(rows)
    labels = np.arange(40) % 3
    classes, expected = fidfast.ClassMoments(4), fidfast.ClassMoments(4)
    classes.update(there[0], labels)
    expected.update(rows, labels)
    assert classes == expected
    reports = [fidfast.report(*pair) for pair in (there, (rows, others))]
    assert str(reports[0]) == str(reports[1])


class LikeJax:
    """An array that has no method to copy it, and types that DLPack to the host does not know."""

    def __init__(self, values, place):
        self._values, self.__dlpack_device__ = values, place.__dlpack_device__
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self):
        return len(self._values)

    def __getitem__(self, rows):
        return LikeJax(self._values[rows], self)

    def __array__(self, dtype=None, copy=None):
        return self._values

    def __dlpack__(self, **options):
        raise BufferError("only to a GPU")


def test_arrays_that_numpy_can_convert_are_copied_so(rng, not_built):
    rows = rng.standard_normal((9, 3)).astype(ml_dtypes.bfloat16)
    there = LikeJax(rows, DeviceArray(np.zeros((1, 1))))
    moments, expected = Moments(3), Moments(3)
    moments.update(there)
    expected.update(rows)
    assert moments == expected
    assert fidfast.kid(there, there[1:]) == fidfast.kid(rows, rows[1:])
