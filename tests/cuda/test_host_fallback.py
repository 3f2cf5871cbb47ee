"""Features on a GPU are copied to the host without the extension, and by metrics that run on the host only."""

import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

import fidfast
from fidfast import Moments, _devices
from fidfast._stats import slices


def test_without_the_extension_features_are_copied_to_the_host(rng, not_built, monkeypatch):
    """A batch at once; in slices where the moments are discarded after an error, to bound the memory on the host."""
    monkeypatch.setattr(slices, "ROWS_PER_SLICE", 7)
    rows, others = rng.standard_normal((30, 4)), rng.standard_normal((25, 4)) + 0.5
    on_gpu = DeviceArray(rows), DeviceArray(others)
    copied = []
    on_host = _devices.to_host
    for module in (_devices, slices):
        monkeypatch.setattr(module, "to_host", lambda features: (copied.append(len(features)), on_host(features))[1])
    moments, expected = Moments(4, precision="float64"), Moments(4, precision="float64")
    moments.update(on_gpu[0])
    assert copied == [30]
    expected.update(rows)
    assert moments == expected
    in_blocks, expected = Moments(4, precision="float64", blocks=3), Moments(4, precision="float64", blocks=3)
    in_blocks.update(on_gpu[0])
    expected.update(rows)
    assert in_blocks == expected
    copied.clear()
    sliced = Moments.from_features(on_gpu[0], precision="float64")
    assert copied == [7, 7, 7, 7, 2]
    assert sliced == Moments.from_features(rows, precision="float64")
    assert fidfast.fid(*on_gpu) == pytest.approx(fidfast.fid(rows, others), rel=1e-12)  # sums in different blocks
    estimates = fidfast.estimate(*on_gpu), fidfast.estimate(rows, others)
    assert estimates[0].stderr == pytest.approx(estimates[1].stderr, rel=1e-10)  # of differences
    np.testing.assert_allclose(fidfast.influence(*on_gpu), fidfast.influence(rows, others), rtol=0, atol=1e-10)


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_batch_that_is_copied_is_added_completely_or_not_at_all(not_built, monkeypatch, blocks):
    """The error names the row of the batch."""
    monkeypatch.setattr(slices, "ROWS_PER_SLICE", 7)
    rows = np.ones((30, 4))
    rows[23, 1] = np.nan
    moments = Moments(4, blocks=blocks)
    for work in (moments.update, Moments.from_features, lambda rows: fidfast.fid(rows, np.ones((9, 4)))):
        with pytest.raises(ValueError, match=r"the first such row is 23$"):
            work(DeviceArray(rows))
    assert moments.num_samples == 0


@pytest.mark.parametrize("built", [True, False])
def test_metrics_that_run_on_the_host_take_features_on_a_gpu(rng, request, extension, built):
    if not built:
        request.getfixturevalue("not_built")
    rows, others = rng.standard_normal((40, 4)), rng.standard_normal((30, 4)) + 0.5
    on_gpu = DeviceArray(rows), DeviceArray(others)
    assert fidfast.kid(*on_gpu) == fidfast.kid(rows, others)
    assert fidfast.precision_recall(*on_gpu) == fidfast.precision_recall(rows, others)
    # Its Fréchet distance is computed on the GPU: other roundings.
    assert fidfast.mifid(*on_gpu) == pytest.approx(fidfast.mifid(rows, others), rel=1e-12)
    assert fidfast.density_coverage(*on_gpu) == fidfast.density_coverage(rows, others)
    assert fidfast.cmmd(*on_gpu) == fidfast.cmmd(rows, others)
    assert fidfast.inception_score(on_gpu[0]) == fidfast.inception_score(rows)
    labels = np.arange(40) % 3
    classes, expected = fidfast.ClassMoments(4), fidfast.ClassMoments(4)
    classes.update(on_gpu[0], labels)
    expected.update(rows, labels)
    assert classes == expected
    reports = [fidfast.report(*pair) for pair in (on_gpu, (rows, others))]
    assert str(reports[0]) == str(reports[1])


class LikeJax:
    """An array without a method that copies it to the host, and that DLPack cannot copy to the host either."""

    def __init__(self, values, on_gpu):
        self._values, self.__dlpack_device__ = values, on_gpu.__dlpack_device__
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self):
        return len(self._values)

    def __getitem__(self, rows):
        return LikeJax(self._values[rows], self)

    def __array__(self, dtype=None, copy=None):
        return self._values

    def __dlpack__(self, **options):
        raise BufferError("only to a GPU")


def test_arrays_with_array_interface_are_copied_by_numpy(rng, not_built):
    rows = rng.standard_normal((9, 3)).astype(ml_dtypes.bfloat16)
    on_gpu = LikeJax(rows, DeviceArray(np.zeros((1, 1))))
    moments, expected = Moments(3), Moments(3)
    moments.update(on_gpu)
    expected.update(rows)
    assert moments == expected
    assert fidfast.kid(on_gpu, on_gpu[1:]) == fidfast.kid(rows, rows[1:])
