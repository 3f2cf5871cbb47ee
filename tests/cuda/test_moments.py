"""Properties of moments on every device: the host, the stand-in, and with ``--real-gpu`` a GPU.

In small dims, with fewer and more rows than dim and than a block of 1,024.
"""

import ml_dtypes
import numpy as np
import pytest
import reference
from devices import LAYOUTS, Host

import fidfast

HOST = Host()
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def moments_of(device, *batches, dim=None, layout="rows", **options):
    moments = fidfast.Moments(dim or batches[0].shape[1], precision="float64", device=device.name, **options)
    for batch in batches:
        moments.update(device.array(batch, layout))
    assert moments.device == device.name
    return moments


def relative_error(sigma, expected):
    """Largest error of an entry, relative to the standard deviations of its two units."""
    deviation = np.sqrt(np.diag(expected))
    return np.max(np.abs(sigma - expected) / np.outer(deviation, deviation))


def assert_near(stats, expected, rows, tolerance=1e-12):
    """The same number of samples, and mean and covariance equal up to rounding.

    n products with a relative error of eps each are summed in blocks of 1,024 in any order: sqrt(1024) eps = 1e-14.
    Each row has an error of eps |offset|.
    """
    assert stats.num_samples == expected.num_samples
    assert relative_error(stats.sigma, expected.sigma) < tolerance
    np.testing.assert_allclose(stats.mu, expected.mu, rtol=1e-12, atol=tolerance * np.abs(rows).max())


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize(
    ("n", "dim", "offset", "cuts"),
    [
        (5, 7, 0.0, (2, 2)),
        (8, 9, -1e3, (1, 5, 7)),
        (9, 9, 0.0, ()),
        (10, 9, 1.0, (9,)),
        (700, 3, -1e3, (3, 4, 400)),
        (1024, 4, 0.0, (1023,)),
        (1025, 5, 1.0, (4, 1024)),
        (2500, 3, -1e3, (1500,)),
        (3100, 4, 1.0, (3, 1050, 1051, 3099)),
    ],
)
def test_moments_do_not_depend_on_splits_and_merges(rng, device, n, dim, offset, cuts):
    rows = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + offset
    batches = np.split(rows, cuts)
    expected = moments_of(device, rows).stats()
    parts = [moments_of(device, batches[i], dim=dim) for i in rng.permutation(len(batches))]
    while len(parts) > 1:
        i, j = rng.choice(len(parts), 2, replace=False)
        parts[i].merge(parts[j])
        del parts[j]
    for other in (parts[0].stats(), moments_of(device, *batches, dim=dim).stats(), moments_of(HOST, rows).stats()):
        assert_near(other, expected, rows)
    mu, sigma = reference.moments(rows)
    assert_near(expected, fidfast.GaussianStats(mu, sigma, num_samples=n), rows)


@pytest.mark.grid(keep=6)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_every_memory_layout(rng, device, dtype, layout):
    rows = rng.standard_normal((1100, 5)).astype(dtype)
    exact = rows.astype(float)
    for n in (4, 30, 1100):
        stats = moments_of(device, rows[:n], layout=layout).stats()
        assert_near(stats, fidfast.GaussianStats(*reference.moments(exact[:n]), num_samples=n), exact)
    # Few rows are kept, with the same bits on every device.
    kept = moments_of(device, rows[:4], layout=layout)
    assert kept == moments_of(HOST, rows[:4])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_float16_and_bfloat16_is_converted_exactly(device, dtype):
    patterns = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # NaN patterns
        values = patterns[np.isfinite(patterns.astype(np.float64))]
    rows = np.resize(values, (-(-len(values) // 64), 64))
    for part in np.array_split(rows, -(-len(rows) // 60)):  # fewer rows than dim are kept
        kept = moments_of(device, part).state()["0/narrow_rows"]
        np.testing.assert_array_equal(kept.view(np.uint32), part.astype(np.float32).view(np.uint32))


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize("n", [6, 50, 2100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_offset_of_a_million_loses_no_precision(rng, device, n, dtype):
    rows = (rng.standard_normal((n, 6)) + 1e6).astype(dtype)
    # The mean has twice the precision of float64, so centred rows are exact and only products round: eps sqrt(n) each.
    sigma = moments_of(device, *np.array_split(rows, 3)).stats().sigma
    assert relative_error(sigma, reference.moments(rows)[1]) < 1e-12


def test_a_drifting_stream_loses_no_precision(rng, device):
    rows = np.sort(rng.standard_normal((3000, 3)) * 1e3, axis=0)
    stats = moments_of(device, *np.array_split(rows, 7)).stats()
    assert relative_error(stats.sigma, reference.moments(rows)[1]) < 1e-12


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_unit_has_exactly_zero_variance(rng, device, dtype):
    values = [0.0, 0.1, 1e6 + 0.1, -3e-5]
    rows = rng.standard_normal((1100, 6)).astype(dtype)
    rows[:, 1:5] = np.minimum(values, float(ml_dtypes.finfo(dtype).max))
    for batches in ([rows], np.array_split(rows, 3), [rows[:3]]):
        sigma = moments_of(device, *batches).stats().sigma
        assert np.all(sigma[1:5] == 0)
        assert np.all(np.diag(sigma)[[0, 5]] > 0)


@pytest.mark.grid(keep=5)
@pytest.mark.parametrize(("n", "cut"), [(6, 2), (9, 9), (40, 30), (1030, 1026), (2300, 1100)])
def test_unmerge_undoes_merge(rng, device, n, cut):
    rows = rng.standard_normal((n, 8)) + 1
    rest, part = moments_of(device, rows[cut:], dim=8), moments_of(device, rows[:cut])
    both = rest + part
    both.unmerge(part)
    assert both.num_samples == n - cut
    if n - cut < 2:
        return
    # The difference has the rounding error of the minuend: eps times the larger scatter.
    assert_near(both.stats(), rest.stats(), rows, 1e-11 * n / (n - cut))


def test_a_sliding_window_of_few_rows_is_exact(rng, device):
    rows = rng.standard_normal((36, 12)).astype(np.float32)
    window = moments_of(device, rows[:12])
    for first in range(0, 24, 6):
        window.unmerge(moments_of(device, rows[first : first + 6]))
        window.update(device.array(rows[first + 12 : first + 18]))
    assert window == moments_of(device, rows[24:])


def test_unmerge_rejects_moments_that_were_never_merged(rng, device):
    moments = moments_of(device, rng.standard_normal((50, 3)))
    before = moments.__copy__()
    with pytest.raises(ValueError, match="cannot unmerge 51 samples from moments of 50"):
        moments.unmerge(moments_of(device, rng.standard_normal((51, 3))))
    for scale in (1, 100):
        with pytest.raises(ValueError, match="cannot unmerge samples that were never merged: one of the rows"):
            moments.unmerge(moments_of(device, rng.standard_normal((40, 3)) * scale))
    folded = moments_of(device, rng.standard_normal((1500, 3)))
    for scale, n in ((100, 40), (1, 1499), (1, 1500)):
        unchanged = folded.__copy__()
        with pytest.raises(ValueError, match=r"cannot unmerge samples that were never merged: column \d would"):
            folded.unmerge(moments_of(device, rng.standard_normal((n, 3)) * scale))
        assert folded == unchanged
    with pytest.raises(ValueError, match="cannot unmerge moments of dim=4 and dim=3"):
        moments.unmerge(moments_of(device, rng.standard_normal((40, 4))))
    assert moments == before


@pytest.mark.parametrize("n", [3, 1200])
def test_merging_and_unmerging_moments_with_themselves(rng, device, n):
    rows = rng.standard_normal((n, 3))
    moments = moments_of(device, rows)
    moments.merge(moments)
    assert moments.num_samples == 2 * n
    assert relative_error(moments.stats(ddof=0).sigma, moments_of(device, rows).stats(ddof=0).sigma) < 1e-13
    moments.unmerge(moments)
    assert moments == moments_of(device, dim=3)


@pytest.mark.parametrize("ddof", [0, 1, 3])
@pytest.mark.parametrize("n", [5, 40])
def test_ddof(rng, device, ddof, n):
    rows = rng.standard_normal((n, 8))
    np.testing.assert_allclose(
        moments_of(device, rows).stats(ddof=ddof).sigma, reference.moments(rows, ddof)[1], rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("ddof", [-1, 5])
def test_too_few_rows_and_invalid_ddof(rng, device, ddof):
    moments = moments_of(device, rng.standard_normal((1, 8)))
    with pytest.raises(ValueError, match="a covariance needs at least 2 samples, got 1"):
        moments.stats()
    moments.update(device.array(rng.standard_normal((4, 8))))
    with pytest.raises(ValueError, match=f"ddof must be from 0 to num_samples - 1 = 4, got {ddof}"):
        moments.stats(ddof=ddof)


@pytest.mark.parametrize("n", [5, 1500])
def test_stats_does_not_change_moments(rng, device, n):
    moments = moments_of(device, rng.standard_normal((n, 6)))
    before = moments.__copy__()
    assert moments.stats() == moments.stats()
    assert moments == before


@pytest.mark.parametrize("few", [3, 8])
def test_the_dtype_may_change_between_batches(rng, device, few):
    rows = rng.standard_normal((2200, 8))
    for cuts in ((few - 2, few), (1000, 1500), (1100, 1101)):
        parts = np.split(rows, cuts)
        mixed = [parts[0].astype(np.float32), parts[1], parts[2][: few if cuts[1] == few else None].astype(np.float16)]
        converted = np.concatenate(mixed, dtype=np.float64)
        stats = moments_of(device, *mixed).stats()
        assert_near(stats, fidfast.GaussianStats(*reference.moments(converted), num_samples=len(converted)), converted)


def test_empty_batches_change_nothing(rng, device):
    rows = rng.standard_normal((20, 4))
    moments = moments_of(device, rows[:0], rows, rows[:0])
    assert moments == moments_of(device, rows)


def test_reset(rng, device):
    rows = rng.standard_normal((2100, 3))
    for n in (2, 2100):
        moments = moments_of(device, rows[:n])
        moments.reset()
        assert moments == moments_of(device, dim=3)
        moments.update(device.array(rows))
        assert moments == moments_of(device, rows)


def test_a_wrong_number_of_columns(rng, device):
    moments = moments_of(device, rng.standard_normal((3, 4)))
    before = moments.__copy__()
    with pytest.raises(ValueError, match="features have 5 columns, but Moments was created with dim=4"):
        moments.update(device.array(rng.standard_normal((3, 5))))
    with pytest.raises(ValueError, match="cannot merge moments of dim=5 and dim=4"):
        moments.merge(moments_of(device, rng.standard_normal((3, 5))))
    assert moments == before


def test_blocks_get_equal_shares_of_the_rows(rng, device):
    rows = rng.standard_normal((100, 4))
    moments = moments_of(device, rows[:31], rows[31:], blocks=3)
    assert [block.num_samples for block in moments.blocks] == [34, 33, 33]
    assert {block.device for block in moments.blocks} == {device.name}
    assert_near(moments.stats(), moments_of(HOST, rows).stats(), rows)
    with pytest.raises(ValueError, match="the first such row is 2"):
        moments.update(device.array(np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 1.0)[:, [0, 1, 2, 2]]))
    assert moments.num_samples == 100
