"""Sources, errors, notes and warnings of `estimate` and `influence`."""

import ml_dtypes
import numpy as np
import pytest
import torch

import fidfast
from fidfast import GaussianStats, Moments
from fidfast._files import Features

REFERENCE = GaussianStats(np.zeros(4), np.eye(4))


@pytest.fixture
def rows(rng):
    return rng.standard_normal((300, 4)).astype(np.float32) * 1.2


# Sources ------------------------------------------------------------------------------------------------------------


def test_arrays_tensors_and_files_give_the_same_estimate(rows, tmp_path):
    expected = fidfast.estimate(rows, REFERENCE)
    influence = fidfast.influence(rows, REFERENCE)
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", features=rows)
    fortran = np.asfortranarray(rows)
    strided = np.repeat(rows, 2, axis=1)[:, ::2]
    for source in (torch.from_numpy(rows), tmp_path / "rows.npy", str(tmp_path / "rows.npz"), fortran, strided):
        assert fidfast.estimate(source, REFERENCE) == expected
        assert np.array_equal(fidfast.influence(source, REFERENCE), influence)
    REFERENCE.save(tmp_path / "reference.npz")
    assert fidfast.estimate(rows, tmp_path / "reference.npz") == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_narrow_tensors_give_the_estimate_of_their_float64_values(rows, dtype):
    tensor = torch.from_numpy(rows).to(dtype)
    assert fidfast.estimate(tensor, REFERENCE) == fidfast.estimate(tensor.double(), REFERENCE)
    assert np.array_equal(fidfast.influence(tensor, REFERENCE), fidfast.influence(tensor.double().numpy(), REFERENCE))
    if dtype == torch.bfloat16:
        assert fidfast.estimate(rows.astype(ml_dtypes.bfloat16), REFERENCE) == fidfast.estimate(tensor, REFERENCE)


def test_memory_map_of_several_slices(rng, tmp_path):
    rows = rng.standard_normal((20_000, 3))
    np.save(tmp_path / "rows.npy", rows)
    reference = GaussianStats(np.zeros(3), np.eye(3))
    found = fidfast.influence(tmp_path / "rows.npy", reference)
    assert found.shape == (20_000,)
    assert np.array_equal(found, fidfast.influence(rows, reference))
    picked = 8192 + 8192 + 7  # in the last slice
    exact = fidfast.fid(rows, reference) - fidfast.fid(np.delete(rows, picked, axis=0), reference)
    # A row contributes about 6 / n; errors are 1e-7 of it (quadrature) and 1e-15 of the traces, 6 (rounding).
    assert found[picked] == pytest.approx(exact, abs=1e-7 * 6 / 20_000 + 6e-14)


def test_any_object_with_dlpack(rows):
    class Foreign:
        def __dlpack__(self, **options):
            return rows.__dlpack__(**options)

        def __dlpack_device__(self):
            return rows.__dlpack_device__()

    class Shaped(Foreign):
        shape = rows.shape

    for foreign in (Shaped(), Foreign()):
        assert fidfast.estimate(foreign, REFERENCE) == fidfast.estimate(rows, REFERENCE)
        assert fidfast.fid(foreign, REFERENCE) == fidfast.fid(rows, REFERENCE)


def test_moments_without_blocks_are_an_exact_reference(rows):
    moments = Moments(4)
    moments.update(rows)
    found = fidfast.estimate(rows + 1, moments)
    assert found == fidfast.estimate(rows + 1, moments.stats())
    assert found.num_samples == (300, None)


# Errors, notes and warnings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [fidfast.estimate, fidfast.influence])
def test_errors_name_the_argument(call, rows, tmp_path):
    with pytest.raises(TypeError, match=r"^samples: .*int"):
        call(rows.astype(int), REFERENCE)
    with pytest.raises(ValueError, match="reference: "):
        call(rows, np.zeros((0, 4)))
    with pytest.raises(ValueError, match="samples has dim 3, but reference has dim 4"):
        call(rows[:, :3], REFERENCE)
    with pytest.raises(ValueError, match=r"^samples: features must be 2-D"):
        call(rows[0], REFERENCE)
    bad = rows.copy()
    bad[7, 2] = np.inf
    with pytest.raises(ValueError, match=r"^samples: .*NaN or infinity; the first such row is 7"):
        call(bad, REFERENCE)
    with pytest.raises(
        ValueError, match="samples has 2 samples; the jackknife leaves out 1 at a time and needs at least 3"
    ):
        call(rows[:2], REFERENCE)
    with pytest.raises(ValueError, match=r"^samples: .*at least 2"):
        call(rows[:1], REFERENCE)
    with pytest.raises(FileNotFoundError, match=r"no such file: .*missing.npy"):
        call(tmp_path / "missing.npy", REFERENCE)
    with pytest.raises(ValueError, match="float16"):
        call(rows, REFERENCE, precision="float16")


def test_estimate_needs_samples_and_influence_rows(rows):
    with pytest.raises(
        ValueError, match=r"^samples has no samples to estimate an error from: pass the \(n, dim\) feat"
    ):
        fidfast.estimate(REFERENCE, REFERENCE)
    moments = Moments(4, blocks=20)
    moments.update(rows)
    for source in (REFERENCE, moments):
        with pytest.raises(TypeError, match=r"^samples: influence needs the \(n, dim\) features themselves, got "):
            fidfast.influence(source, rows)


def test_note_for_too_few_samples(rng):
    rows = rng.standard_normal((8, 4))
    found = fidfast.estimate(rows, REFERENCE)
    assert (
        found.note
        == "samples has 8 samples; an error bar needs at least 9, 2 per direction with nonzero variance (4) plus 1"
    )
    assert found.value == fidfast.fid(rows, REFERENCE)
    assert np.isnan([found.stderr, found.bias, found.unbiased, *found.interval()]).all()
    assert str(found) == f"{found.value:.6g}, without an error bar: {found.note}"
    assert np.isfinite(fidfast.influence(rows, REFERENCE)).all()
    back = fidfast.estimate(rng.standard_normal((100, 4)), rows)
    assert (
        back.note
        == "reference has 8 samples; an error bar needs at least 9, 2 per direction with nonzero variance (4) plus 1"
    )
    assert fidfast.estimate(rng.standard_normal((9, 4)), REFERENCE).note is None
    # Directions that do not vary do not count.
    narrow = np.zeros((9, 40))
    narrow[:, :4] = rng.standard_normal((9, 4))
    assert fidfast.estimate(narrow, GaussianStats(np.zeros(40), np.eye(40))).note is None


@pytest.mark.parametrize("call", [fidfast.estimate, fidfast.influence])
def test_different_extractors_give_one_warning_at_the_caller(call, rows):
    reference = GaussianStats(np.zeros(4), np.eye(4), extractor="one")
    moments = Moments(4, extractor="two", blocks=20)
    moments.update(rows)
    pair = (moments, reference) if call is fidfast.estimate else (Features(rows, "two"), reference)
    with pytest.warns(UserWarning, match="different extractors, 'two' and 'one'") as caught:
        call(*pair)
    assert [warning.filename for warning in caught] == [__file__]
