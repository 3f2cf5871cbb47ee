"""`Moments` of a stream: accuracy, merging, storage, threads."""

import copy
import pickle
import sys
import threading
import time

import ml_dtypes
import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st

import fidfast

EPSILON = np.finfo(float).eps
NARROW = [np.float16, ml_dtypes.bfloat16, np.float32]


def moments_of(*batches, dim=None, **options):
    moments = fidfast.Moments(dim or batches[0].shape[1], **options)
    for batch in batches:
        moments.update(batch)
    return moments


def relative_error(sigma, expected):
    """Largest error of an entry, relative to the standard deviations of its two units."""
    deviation = np.sqrt(np.diag(expected))
    return np.max(np.abs(sigma - expected) / np.outer(deviation, deviation))


@st.composite
def split_streams(draw):
    """Fewer and more rows than dim and than a block of 1,024, and positions at which to split them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([2, 5, 40, 700, 1023, 1024, 1025, 2500, 4100]))
    dim = draw(st.sampled_from([1, 3, 40, 64]))
    offset = draw(st.sampled_from([0.0, 1.0, -1e3]))
    rows = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + offset
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=8)))
    return rows, np.split(rows, cuts), rng


@given(split_streams())
def test_moments_do_not_depend_on_splits_or_on_the_order_of_merges(stream):
    rows, batches, rng = stream
    complete = moments_of(rows).stats()
    parts = [moments_of(batches[i], dim=rows.shape[1]) for i in rng.permutation(len(batches))]
    while len(parts) > 1:
        i, j = rng.choice(len(parts), 2, replace=False)
        parts[i].merge(parts[j])
        del parts[j]
    streamed = moments_of(*batches, dim=rows.shape[1]).stats()
    # n products with a relative error of eps each, summed in blocks of 1,024: about sqrt(1024) eps = 1e-14.
    for other in (parts[0].stats(), streamed):
        assert other.num_samples == len(rows)
        assert relative_error(other.sigma, complete.sigma) < 1e-12
        np.testing.assert_allclose(other.mu, complete.mu, rtol=1e-12, atol=1e-12 * np.abs(rows).max())


@pytest.mark.parametrize("dim", [3, 600, 1500])
@pytest.mark.parametrize("dtype", [*NARROW, np.float64])
def test_statistics_have_the_same_bits_for_every_division_into_batches(rng, dtype, dim):
    rows = rng.standard_normal((4 * 1024 + 300, dim)).astype(dtype)
    expected = moments_of(rows).stats()
    for most in (97, 2000):
        cuts = np.cumsum(rng.integers(1, most, size=len(rows) // most))
        moments = moments_of(*np.split(rows, cuts[cuts < len(rows)]))
        found = moments.stats()
        np.testing.assert_array_equal(found.mu, expected.mu)
        np.testing.assert_array_equal(found.sigma, expected.sigma)
        # Merged parts of whole blocks, in any order, differ only through the float64 sum of the blocks.
        first, second = moments_of(rows[:2048]), moments_of(rows[2048:])
        assert relative_error((second + first).stats().sigma, expected.sigma) < 1e-14
        # Parts of fewer rows than a block are rows.
        assert (moments_of(rows[:700]) + moments_of(rows[700:1400])) == moments_of(rows[:1400])


@given(split_streams())
def test_moments_equal_two_pass_formulas(stream):
    rows, _, _ = stream
    stats = moments_of(rows).stats()
    mu, sigma = reference.moments(rows)
    np.testing.assert_allclose(stats.mu, mu, rtol=1e-12, atol=1e-13 * np.abs(rows).max())
    # An offset rounds each row by eps |offset|, which is 2e-13 of the standard deviations here.
    assert relative_error(stats.sigma, sigma) < 1e-12


@pytest.mark.parametrize("dim", [16, 512])
@pytest.mark.parametrize("n", [50, 3000])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_offset_keeps_accuracy(rng, dim, n, dtype):
    rows = (rng.standard_normal((n, dim)) + 1e6).astype(dtype)
    _, sigma = reference.moments(rows[:, :16])
    # The mean has twice the digits of float64, so centring is exact and only the products round: eps sqrt(n).
    assert relative_error(moments_of(rows, precision="float64").stats().sigma[:16, :16], sigma) < 1e-12
    # In float32 the differences from the block's mean are exact too (Sterbenz); a sum of 1,024 products is rounded by
    # at most 6e-8 sqrt(1024) = 2e-6.
    default = 2e-6 if dtype is np.float32 and dim >= 512 else 1e-12
    assert relative_error(moments_of(rows).stats().sigma[:16, :16], sigma) < default


@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_sorted_rows_keep_accuracy(rng, order):
    rows = np.sort(rng.standard_normal((5000, 8)) * 1e3, axis=0)[:: 1 if order == "sorted" else -1]
    _, sigma = reference.moments(rows)
    assert relative_error(moments_of(*np.array_split(rows, 77)).stats().sigma, sigma) < 1e-12


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 + 0.1, -3e-5])
@pytest.mark.parametrize("dtype", [*NARROW, np.float64])
def test_constant_unit_has_exactly_zero_variance(rng, value, dtype):
    rows = rng.standard_normal((3000, 4)).astype(dtype)
    rows[:, 2] = min(value, float(ml_dtypes.finfo(dtype).max))
    for batches in ([rows], np.array_split(rows, 13)):
        sigma = moments_of(*batches).stats().sigma
        assert np.all(sigma[2] == 0)
        assert np.all(np.diag(sigma)[[0, 1, 3]] > 0.5)


@given(split_streams(), st.sampled_from(["float32", "float64"]))
def test_unmerge_undoes_merge(stream, precision):
    rows, batches, _ = stream
    rest = moments_of(*batches[1:], dim=rows.shape[1], precision=precision)
    part = moments_of(batches[0], dim=rows.shape[1], precision=precision)
    both = rest + part
    both.unmerge(part)
    assert both.num_samples == rest.num_samples
    if rest.num_samples < 2:
        return
    kept, expected = both.stats(), rest.stats()
    # The remainder has the rounding of the larger scatter.
    scale = np.outer(*[np.sqrt(np.diag((rest + part).stats(ddof=0).sigma) * len(rows) / rest.num_samples)] * 2)
    assert np.all(np.abs(kept.sigma - expected.sigma) <= 1e-11 * scale)


def test_sliding_window_of_few_rows_is_exact(rng):
    rows = rng.standard_normal((60, 32)).astype(np.float32)
    window = moments_of(rows[:20])
    for first in range(0, 40, 10):
        window.update(rows[first + 20 : first + 30])
        window.unmerge(moments_of(rows[first : first + 10]))
    assert window == moments_of(rows[40:])


def test_unmerge_rejects_rows_that_were_not_merged(rng):
    rows = rng.standard_normal((50, 3))
    moments = moments_of(rows)
    before = copy.copy(moments)
    with pytest.raises(ValueError, match="cannot unmerge 51 samples from moments of 50"):
        moments.unmerge(moments_of(rng.standard_normal((51, 3))))
    foreign = rng.standard_normal((40, 3))
    for other in (foreign * 100, foreign, np.vstack([rows, foreign])[10:60], rows + 1):
        with pytest.raises(ValueError, match="cannot unmerge samples that were never merged: one of the rows"):
            moments.unmerge(moments_of(other))
    assert moments == before
    moments.unmerge(moments_of(rows[::-2].astype(np.float64)))  # in any order
    assert moments == moments_of(rows[::2])


def test_merge_and_unmerge_with_itself(rng):
    rows = rng.standard_normal((500, 3))
    moments = moments_of(rows)
    moments.merge(moments)
    assert moments.num_samples == 1000
    assert relative_error(moments.stats(ddof=0).sigma, moments_of(rows).stats(ddof=0).sigma) < 1e-13
    moments.unmerge(moments)
    assert moments == fidfast.Moments(3)


@pytest.mark.grid(keep=9)
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(("dim", "n"), [(8, 6), (8, 3000), (64, 40), (64, 4000), (512, 400), (512, 4000), (600, 700)])
def test_narrow_rows_give_the_distance_of_their_float64_values(rng, dtype, dim, n):
    mixing = rng.standard_normal((dim, dim)) * 10.0 ** -rng.uniform(0, 2, dim)
    a = np.maximum(rng.standard_normal((n, dim)) @ mixing, 0).astype(dtype)
    b = np.maximum(rng.standard_normal((n, dim)) @ mixing + 0.1, 0).astype(dtype)
    exact = fidfast.fid(a.astype(np.float64), b.astype(np.float64))
    assert fidfast.fid(a, b) == pytest.approx(exact, rel=1e-6)
    assert fidfast.fid(a, b, precision="float64") == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-16, 1e18, 1e30])
def test_values_whose_squares_overflow_or_underflow_float32(rng, scale):
    """A single such unit would lose accuracy; blocks before and after have moderate values."""
    rows = rng.standard_normal((4000, 512)).astype(np.float32)
    rows[1100:2300, 3] *= np.float32(scale)
    rows[:, 5] *= np.float32(scale)
    _, sigma = reference.moments(rows[:, :8])
    # As above: a sum of 1,024 float32 products is rounded by at most 2e-6; the rows are float32 on both sides.
    assert relative_error(moments_of(rows).stats().sigma[:8, :8], sigma) < 2e-6


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_float16_and_bfloat16_value_converts_exactly(dtype):
    patterns = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):  # NaN
        values = patterns[np.isfinite(patterns.astype(np.float64))]
    kept = moments_of(values.reshape(1, -1)).state()["0/narrow_rows"]
    np.testing.assert_array_equal(kept.ravel().view(np.uint32), values.astype(np.float32).view(np.uint32))


def test_from_features(rng):
    rows = rng.standard_normal((300, 4))
    for features in (rows, torch.from_numpy(rows)):
        moments = fidfast.Moments.from_features(features, precision="float64", extractor="net")
        assert moments == moments_of(rows, precision="float64", extractor="net")
    assert fidfast.Moments.from_features(rows[:0]) == fidfast.Moments(4)
    with pytest.raises(ValueError, match=r"^features must be 2-D \(n, dim\), got shape \(4,\)$"):
        fidfast.Moments.from_features(rows[0])
    with pytest.raises(TypeError, match=r"^features must be an array or tensor \(n, dim\), got list$"):
        fidfast.Moments.from_features(rows.tolist())


@pytest.mark.parametrize("ddof", [0, 1, 3])
@pytest.mark.parametrize("n", [5, 200])
def test_ddof(rng, ddof, n):
    rows = rng.standard_normal((n, 20))
    stats = moments_of(rows).stats(ddof=ddof)
    np.testing.assert_allclose(stats.sigma, reference.moments(rows, ddof)[1], rtol=0, atol=1e-13)
    assert stats.ddof == ddof


def test_stats_does_not_change_the_moments(rng):
    moments = moments_of(rng.standard_normal((1500, 20)))
    before = copy.deepcopy(moments)
    first, second = moments.stats(), moments.stats()
    assert first == second
    assert moments == before


@pytest.mark.parametrize("n", [0, 10, 500, 5000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_pickles_and_checkpoints_continue_identically(rng, tmp_path, n, dtype):
    rows = rng.standard_normal((n + 2000, 24)).astype(dtype)
    original = moments_of(rows[:n], extractor="tower", precision="float64")
    original.save(tmp_path / "run")
    copies = {
        "copy": copy.copy(original),
        "deepcopy": copy.deepcopy(original),
        "pickle": pickle.loads(pickle.dumps(original)),
        "checkpoint": fidfast.Moments.load(tmp_path / "run.npz"),
    }
    untouched = copy.copy(original)
    original.update(rows[n:])
    for name, other in copies.items():
        assert other == untouched, name
        assert other.extractor == "tower"
        assert repr(other) == f"Moments(dim=24, num_samples={n}, precision='float64', extractor='tower')"
        other.update(rows[n:])
        assert other == original, name
        assert other.stats() == original.stats()


def test_equality(rng):
    rows = rng.standard_normal((5, 3))
    base = moments_of(rows)
    assert base == moments_of(rows)
    assert base != moments_of(rows[:4])
    assert base != moments_of(rows + 1)
    assert base != moments_of(rows, precision="float64")
    assert base != moments_of(rows, extractor="other")
    assert base != "moments"
    with pytest.raises(TypeError):
        hash(base)


def test_addition(rng):
    rows = rng.standard_normal((300, 4))
    a, b = moments_of(rows[:100]), moments_of(rows[100:])
    total = a + b
    assert (a.num_samples, b.num_samples, total.num_samples) == (100, 200, 300)
    a += b
    assert a == total
    with pytest.raises(TypeError):
        a + 1
    with pytest.raises(TypeError):
        a += 1


def test_merge_rejects_different_extractors(rng):
    rows = rng.standard_normal((5, 3))
    named = moments_of(rows, extractor="one")
    unnamed = moments_of(rows)
    unnamed.merge(named)
    assert unnamed.extractor == "one"
    with pytest.raises(ValueError, match="extractors 'one' and 'two'"):
        named.merge(moments_of(rows, extractor="two"))
    assert named.num_samples == 5


def test_reset_removes_all_rows(rng):
    moments = moments_of(rng.standard_normal((3000, 3)))
    moments.reset()
    assert moments == fidfast.Moments(3)


def test_stream_of_several_dtypes(rng):
    rows = rng.standard_normal((3000, 16))
    mixed = moments_of(rows[:1000].astype(np.float32), rows[1000:1500], rows[1500:].astype(np.float16))
    same = np.concatenate(
        [rows[:1000].astype(np.float32), rows[1000:1500], rows[1500:].astype(np.float16)], dtype=np.float64
    )
    assert relative_error(mixed.stats().sigma, reference.moments(same)[1]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_give_the_same_moments_as_arrays(rng, dtype):
    tensor = torch.from_numpy(rng.standard_normal((200, 8))).to(dtype)
    expected = moments_of(tensor.double().numpy()).stats()
    for same in (tensor, tensor.t().contiguous().t(), tensor.clone().requires_grad_()):
        np.testing.assert_allclose(moments_of(same).stats().sigma, expected.sigma, rtol=0, atol=1e-13)


def test_updates_from_several_threads(rng):
    batches = np.array_split(rng.standard_normal((40_000, 32)), 400)
    moments = fidfast.Moments(32)
    other = moments_of(batches[0])

    def work(mine):
        for batch in mine:
            moments.update(batch)
            moments.num_samples  # noqa: B018  # a read during updates
        moments.merge(other)
        moments.unmerge(other)

    threads = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = moments_of(*batches).stats()
    assert moments.num_samples == 40_000
    # Merging and unmerging leaves rounding of the size of the total.
    assert relative_error(moments.stats().sigma, expected.sigma) < 1e-11


def test_merging_two_objects_into_each_other_does_not_deadlock(rng):
    rows = rng.standard_normal((5, 8))
    a, b = moments_of(rows), moments_of(rows)

    def work(mine, theirs):
        for _ in range(300):
            mine.merge(theirs)
            mine.reset()

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in ((a, b), (b, a))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def longest_pause(update):
    """Longest time in which this thread could not run during the update, as a share of the update's duration."""
    span = []

    def work():
        begin = time.perf_counter()
        update()
        span.append(time.perf_counter() - begin)

    thread = threading.Thread(target=work)
    last, longest = time.perf_counter(), 0.0
    thread.start()
    while thread.is_alive():
        now = time.perf_counter()
        last, longest = now, max(longest, now - last)
    return longest / span[0]


def test_update_releases_the_gil(rng):
    rows = rng.standard_normal((20_000, 512))
    moments = moments_of(rows[:10])
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        # With the GIL held, this thread would pause for the complete update; on a busy machine it may pause for a part.
        assert min(longest_pause(lambda: moments.update(rows)) for _ in range(5)) < 0.5
    finally:
        sys.setswitchinterval(interval)
