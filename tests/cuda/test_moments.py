"""Laws of the moments, wherever features lie: on the host, on the stand-in, and with ``--real-gpu`` on a GPU.

Small dims, and rows on both sides of dim and of a block of 1,024. Whatever the law, the numbers of a device are also
those of the host.
"""

import ml_dtypes
import numpy as np
import pytest
import reference
from places import LAYOUTS, Host

import fidfast

HOST = Host()
DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]


def moments_of(place, *batches, dim=None, layout="rows", **options):
    moments = fidfast.Moments(dim or batches[0].shape[1], "float64", device=place.name, **options)
    for batch in batches:
        moments.update(place.array(batch, layout))
    assert moments.device == place.name
    return moments


def relative_error(sigma, expected):
    """Largest error of an entry, relative to the deviations of its two units."""
    deviation = np.sqrt(np.diag(expected))
    return np.max(np.abs(sigma - expected) / np.outer(deviation, deviation))


def assert_same(stats, expected, rows, tolerance=1e-12):
    """As many samples, and mean and covariance to rounding.

    n products of relative error eps each, summed in blocks of 1,024 in whatever order: sqrt(1024) eps = 1e-14, and a
    row that is eps |offset| off.
    """
    assert stats.num_samples == expected.num_samples
    assert relative_error(stats.sigma, expected.sigma) < tolerance
    np.testing.assert_allclose(stats.mu, expected.mu, rtol=1e-12, atol=tolerance * np.abs(rows).max())


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
def test_any_split_in_any_order_merged_in_any_tree_gives_the_same_moments(rng, device, n, dim, offset, cuts):
    rows = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + offset
    batches = np.split(rows, cuts)
    whole = moments_of(device, rows).stats()
    parts = [moments_of(device, batches[i], dim=dim) for i in rng.permutation(len(batches))]
    while len(parts) > 1:
        i, j = rng.choice(len(parts), 2, replace=False)
        parts[i].merge(parts[j])
        del parts[j]
    for other in (parts[0].stats(), moments_of(device, *batches, dim=dim).stats(), moments_of(HOST, rows).stats()):
        assert_same(other, whole, rows)
    mu, sigma = reference.moments(rows)
    assert_same(whole, fidfast.GaussianStats(mu, sigma, n), rows)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_type_may_lie_in_any_way(rng, device, dtype, layout):
    rows = rng.standard_normal((1100, 5)).astype(dtype)
    exact = rows.astype(float)
    for n in (4, 30, 1100):
        stats = moments_of(device, rows[:n], layout=layout).stats()
        assert_same(stats, fidfast.GaussianStats(*reference.moments(exact[:n]), n), exact)
    # The numbers that the core sees are the same, so the kept ones have the same bits.
    kept = moments_of(device, rows[:4], layout=layout)
    assert kept == moments_of(HOST, rows[:4])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_bit_pattern_is_widened_exactly(device, dtype):
    patterns = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # NaN patterns
        values = patterns[np.isfinite(patterns.astype(np.float64))]
    rows = np.resize(values, (-(-len(values) // 64), 64))
    for part in np.array_split(rows, -(-len(rows) // 60)):  # few enough to be kept
        kept = moments_of(device, part)._whole().state()["narrow_rows"]
        np.testing.assert_array_equal(kept.view(np.uint32), part.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("n", [6, 50, 2100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_offset_of_a_million_costs_no_digits(rng, device, n, dtype):
    rows = (rng.standard_normal((n, 6)) + 1e6).astype(dtype)
    # The rows are exact in float64 less a mean of twice the digits, so only the products round: eps sqrt(n) each.
    sigma = moments_of(device, *np.array_split(rows, 3)).stats().sigma
    assert relative_error(sigma, reference.moments(rows)[1]) < 1e-12


def test_a_drifting_stream_keeps_its_digits(rng, device):
    rows = np.sort(rng.standard_normal((3000, 3)) * 1e3, axis=0)
    stats = moments_of(device, *np.array_split(rows, 7)).stats()
    assert relative_error(stats.sigma, reference.moments(rows)[1]) < 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dead_unit_has_exactly_zero_variance(rng, device, dtype):
    values = [0.0, 0.1, 1e6 + 0.1, -3e-5]
    rows = rng.standard_normal((1100, 6)).astype(dtype)
    rows[:, 1:5] = np.minimum(values, float(ml_dtypes.finfo(dtype).max))
    for batches in ([rows], np.array_split(rows, 3), [rows[:3]]):
        sigma = moments_of(device, *batches).stats().sigma
        assert np.all(sigma[1:5] == 0)
        assert np.all(np.diag(sigma)[[0, 5]] > 0)


@pytest.mark.parametrize(("n", "cut"), [(6, 2), (9, 9), (40, 30), (1030, 1026), (2300, 1100)])
def test_unmerge_undoes_merge(rng, device, n, cut):
    rows = rng.standard_normal((n, 8)) + 1
    rest, part = moments_of(device, rows[cut:], dim=8), moments_of(device, rows[:cut])
    both = rest + part
    both.unmerge(part)
    assert both.num_samples == n - cut
    if n - cut < 2:
        return
    # What is left carries the rounding of the whole, eps times the larger scatter.
    assert_same(both.stats(), rest.stats(), rows, 1e-11 * n / (n - cut))


def test_a_window_over_few_rows_slides_without_rounding(rng, device):
    rows = rng.standard_normal((36, 12)).astype(np.float32)
    window = moments_of(device, rows[:12])
    for first in range(0, 24, 6):
        window.unmerge(moments_of(device, rows[first : first + 6]))
        window.update(device.array(rows[first + 12 : first + 18]))
    assert window == moments_of(device, rows[24:])


def test_unmerge_refuses_what_was_never_merged(rng, device):
    moments = moments_of(device, rng.standard_normal((50, 3)))
    before = moments.__copy__()
    with pytest.raises(ValueError, match="cannot unmerge 51 samples from moments of 50"):
        moments.unmerge(moments_of(device, rng.standard_normal((51, 3))))
    with pytest.raises(ValueError, match="cannot unmerge samples that were never merged: column 0"):
        moments.unmerge(moments_of(device, rng.standard_normal((40, 3)) * 100))
    with pytest.raises(ValueError, match="cannot unmerge moments of dim=4 and dim=3"):
        moments.unmerge(moments_of(device, rng.standard_normal((40, 4))))
    assert moments == before


@pytest.mark.parametrize("n", [3, 1200])
def test_merging_and_unmerging_itself(rng, device, n):
    rows = rng.standard_normal((n, 3))
    moments = moments_of(device, rows)
    moments.merge(moments)
    assert moments.num_samples == 2 * n
    assert relative_error(moments.stats(0).sigma, moments_of(device, rows).stats(0).sigma) < 1e-13
    moments.unmerge(moments)
    assert moments == moments_of(device, dim=3)


@pytest.mark.parametrize("ddof", [0, 1, 3])
@pytest.mark.parametrize("n", [5, 40])
def test_ddof(rng, device, ddof, n):
    rows = rng.standard_normal((n, 8))
    np.testing.assert_allclose(
        moments_of(device, rows).stats(ddof).sigma, reference.moments(rows, ddof)[1], rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("ddof", [-1, 5])
def test_too_few_rows_and_a_wrong_ddof(rng, device, ddof):
    moments = moments_of(device, rng.standard_normal((1, 8)))
    with pytest.raises(ValueError, match="a covariance needs at least 2 samples, got 1"):
        moments.stats()
    moments.update(device.array(rng.standard_normal((4, 8))))
    with pytest.raises(ValueError, match=f"ddof must be from 0 to num_samples - 1 = 4, got {ddof}"):
        moments.stats(ddof)


@pytest.mark.parametrize("n", [5, 1500])
def test_reading_changes_nothing(rng, device, n):
    moments = moments_of(device, rng.standard_normal((n, 6)))
    before = moments.__copy__()
    assert moments.stats() == moments.stats()
    assert moments == before


@pytest.mark.parametrize("few", [3, 8])
def test_a_stream_may_change_its_type(rng, device, few):
    rows = rng.standard_normal((2200, 8))
    for cuts in ((few - 2, few), (1000, 1500), (1100, 1101)):
        parts = np.split(rows, cuts)
        mixed = [parts[0].astype(np.float32), parts[1], parts[2][: few if cuts[1] == few else None].astype(np.float16)]
        same = np.concatenate(mixed, dtype=np.float64)
        stats = moments_of(device, *mixed).stats()
        assert_same(stats, fidfast.GaussianStats(*reference.moments(same), len(same)), same)


def test_empty_batches_change_nothing(rng, device):
    rows = rng.standard_normal((20, 4))
    moments = moments_of(device, rows[:0], rows, rows[:0])
    assert moments == moments_of(device, rows)


def test_reset_forgets_everything(rng, device):
    rows = rng.standard_normal((2100, 3))
    for n in (2, 2100):
        moments = moments_of(device, rows[:n])
        moments.reset()
        assert moments == moments_of(device, dim=3)
        moments.update(device.array(rows))
        assert moments == moments_of(device, rows)  # the same calls, so the same bits


def test_columns_that_do_not_fit_are_named(rng, device):
    moments = moments_of(device, rng.standard_normal((3, 4)))
    before = moments.__copy__()
    with pytest.raises(ValueError, match="features have 5 columns, but Moments was created with dim=4"):
        moments.update(device.array(rng.standard_normal((3, 5))))
    with pytest.raises(ValueError, match="cannot merge moments of dim=5 and dim=4"):
        moments.merge(moments_of(device, rng.standard_normal((3, 5))))
    assert moments == before


def test_blocks_share_the_rows(rng, device):
    rows = rng.standard_normal((100, 4))
    moments = moments_of(device, rows[:31], rows[31:], blocks=3)
    assert [block.num_samples for block in moments.blocks] == [34, 33, 33]
    assert {block.device for block in moments.blocks} == {device.name}
    assert_same(moments.stats(), moments_of(HOST, rows).stats(), rows)
    with pytest.raises(ValueError, match="the first such row is 2"):
        moments.update(device.array(np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 1.0)[:, [0, 1, 2, 2]]))
    assert moments.num_samples == 100
