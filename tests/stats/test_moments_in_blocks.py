"""`Moments` with several blocks: the same moments, and error bars from the blocks."""

import copy
import math
import pickle

import numpy as np
import pytest

import fidfast
from fidfast import GaussianStats, Moments
from fidfast._files import Progress, State, write_state

REFERENCE = GaussianStats(np.zeros(4), np.eye(4))


def moments_of(rows, blocks=20, batches=(), **options):
    moments = Moments(rows.shape[1], blocks=blocks, **options)
    for batch in np.split(rows, batches):
        moments.update(batch)
    return moments


def counts(moments):
    return [block.num_samples for block in moments.blocks]


def assert_close(a, b):
    """Equal within 1e-12, which float64 rows give for any split."""
    np.testing.assert_allclose(a.stats().mu, b.stats().mu, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.stats().sigma, b.stats().sigma, rtol=0, atol=1e-12 * np.abs(b.stats().sigma).max())


# Moments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [2, 7, 20])
@pytest.mark.parametrize("batch", [1, 3, 20, 33, 500])
def test_rows_are_distributed_evenly(rng, blocks, batch):
    rows = rng.standard_normal((500, 4)) + 3
    moments = moments_of(rows, blocks, range(batch, 500, batch))
    assert moments.num_samples == sum(counts(moments)) == 500
    assert max(counts(moments)) - min(counts(moments)) <= 1
    assert_close(moments, moments_of(rows, 1))
    assert len(moments.blocks) == blocks


def test_batches_of_random_size_are_distributed_evenly(rng):
    moments = Moments(4, blocks=20)
    for n in rng.integers(0, 60, 50):
        moments.update(rng.standard_normal((n, 4)))
        assert max(counts(moments)) - min(counts(moments)) <= 1


def test_each_row_is_in_exactly_one_block(rng):
    moments = moments_of(np.arange(100.0)[:, None], 10, [7, 9, 50])
    sums = [block.num_samples * float(block.stats().mu[0]) for block in moments.blocks]
    assert sum(sums) == pytest.approx(np.arange(100).sum(), rel=1e-14)
    assert all(isinstance(block, Moments) and len(block.blocks) == 1 for block in moments.blocks)


def test_a_rejected_batch_changes_no_block(rng):
    moments = moments_of(rng.standard_normal((50, 4)), 5)
    before = copy.copy(moments)
    bad = rng.standard_normal((30, 4))
    bad[29, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        moments.update(bad)
    with pytest.raises(ValueError, match="features have 3 columns, but Moments was created with dim=4"):
        moments.update(np.zeros((30, 3)))
    with pytest.raises(TypeError, match="float"):
        moments.update(np.zeros((30, 4), int))
    assert moments == before


def test_merge_and_unmerge_work_block_by_block(rng):
    rows, more = rng.standard_normal((200, 4)), rng.standard_normal((150, 4))
    moments, other = moments_of(rows), moments_of(more)
    total = moments + other
    assert counts(total) == [a + b for a, b in zip(counts(moments), counts(other), strict=True)]
    assert_close(total, moments_of(np.concatenate([rows, more]), 1))
    total.unmerge(other)
    assert counts(total) == counts(moments)
    assert_close(total, moments)
    single = moments_of(rows, 1)
    single += other  # adds the rows of all blocks
    assert_close(single, moments_of(np.concatenate([rows, more]), 1))
    single.unmerge(other)
    assert_close(single, moments_of(rows, 1))


def test_unmerge_that_fails_in_one_block_changes_no_block(rng):
    moments = moments_of(rng.standard_normal((40, 4)), 2)
    before = copy.copy(moments)
    other = Moments.from_blocks([moments.blocks[0], moments_of(rng.standard_normal((60, 4)), 1)])
    with pytest.raises(ValueError, match="60"):
        moments.unmerge(other)
    assert moments == before


def test_invalid_numbers_of_blocks(rng):
    rows = rng.standard_normal((100, 4))
    for operation in ("merge", "unmerge"):
        for blocks in (1, 10):
            with pytest.raises(ValueError, match=f"^cannot {operation} moments of blocks={blocks} and blocks=20$"):
                getattr(moments_of(rows), operation)(moments_of(rows, blocks))
    for blocks in (0, -1):
        with pytest.raises(ValueError, match=f"blocks must be at least 1, got {blocks}"):
            Moments(4, blocks=blocks)
    with pytest.raises(TypeError):
        Moments(4, blocks=2.5)


def test_copies_pickles_and_checkpoints_are_equal(rng, tmp_path):
    moments = moments_of(rng.standard_normal((300, 4)), 7, extractor="net")
    moments.save(tmp_path / "moments.npz")
    for other in (
        Moments.load(tmp_path / "moments.npz"),
        pickle.loads(pickle.dumps(moments)),
        copy.copy(moments),
        copy.deepcopy(moments),
    ):
        assert other == moments
        assert (len(other.blocks), other.extractor, counts(other)) == (7, "net", counts(moments))
        other.update(np.zeros((1, 4)))
        assert other != moments
    assert moments != moments_of(rng.standard_normal((300, 4)), 6, extractor="net")
    assert repr(moments) == "Moments(dim=4, num_samples=300, precision='float32', extractor='net', blocks=7)"


def test_assign_replaces_all_or_nothing(rng):
    moments, other = fidfast.Moments(4, blocks=3), fidfast.Moments(4, blocks=2, extractor="net")
    moments.update(rng.standard_normal((30, 4)))
    other.update(rng.standard_normal((50, 4)))
    before, expected = copy.copy(moments), copy.copy(other)
    with pytest.raises(ValueError, match="cannot assign moments of dim=5 to moments of dim=4"):
        moments.assign(fidfast.Moments(5))

    def copy_block(_self):
        raise MemoryError

    failing = copy.copy(other)
    failing._blocks[1] = type("Moments", (), {"__module__": fidfast._core.__name__, "copy": copy_block})()
    with pytest.raises(MemoryError):
        moments.assign(failing)
    assert moments == before

    moments.assign(other)
    other.reset()
    assert moments == expected
    moments.assign(moments)
    assert moments == expected


def test_reset_removes_the_rows_of_all_blocks(rng):
    moments = moments_of(rng.standard_normal((300, 4)), 7)
    moments.reset()
    assert (moments.num_samples, counts(moments)) == (0, [0] * 7)
    assert moments == Moments(4, blocks=7)


# from_blocks, blocks and merged_blocks ------------------------------------------------------------------------------


def test_from_blocks_is_the_inverse_of_blocks(rng):
    moments = moments_of(rng.standard_normal((300, 4)), 7, extractor="net", precision="float64")
    assert Moments.from_blocks(moments.blocks) == moments
    parts = [moments_of(rng.standard_normal((n, 4)), 1) for n in (3, 0, 50)]
    joined = Moments.from_blocks(parts)
    assert counts(joined) == [3, 0, 50]
    assert list(joined.blocks) == parts
    joined.update(np.ones((9, 4)))
    assert [part.num_samples for part in parts] == [3, 0, 50]  # from_blocks copies


def test_blocks_share_memory_with_the_moments(rng):
    moments = moments_of(rng.standard_normal((20, 4)), 2)
    moments.blocks[1].update(np.ones((5, 4)))
    assert counts(moments) == [10, 15]


@pytest.mark.parametrize("blocks", [1, 2, 20])
def test_merged_blocks_is_a_copy_of_all_rows_in_one_block(rng, blocks):
    rows = rng.standard_normal((200, 4))
    moments = moments_of(rows, blocks, extractor="net")
    merged = moments.merged_blocks()
    assert (len(merged.blocks), merged.num_samples, merged.extractor) == (1, 200, "net")
    assert_close(merged, moments_of(rows, 1))
    merged.update(rows)
    assert moments.num_samples == 200


def test_from_blocks_rejects_blocks_that_do_not_fit():
    one = Moments(4, extractor="one")
    for blocks, message in (
        ([], "blocks must contain at least 1 Moments, got 0"),
        ([one, Moments(4, blocks=20)], "blocks[1] has 20 blocks, but each must have 1; pass its merged_blocks()"),
        ([one, Moments(3)], "blocks must have the same dim, got 4 and 3"),
        ([one, Moments(4, extractor="two")], "blocks must have the same extractor, got 'one', 'two'"),
    ):
        with pytest.raises(ValueError) as caught:
            Moments.from_blocks(blocks)
        assert str(caught.value) == message


# Error bars ---------------------------------------------------------------------------------------------------------


def test_estimate_from_blocks_is_close_to_that_from_rows():
    """The standard deviation of a standard error from 20 blocks is 1 / sqrt(2 * 19) = 16 % of it.

    A deviation of 4.5 of these has a probability of 7e-6.
    """
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((2000, 4)) * 1.2
    of_rows, of_blocks = fidfast.estimate(rows, REFERENCE), fidfast.estimate(moments_of(rows), REFERENCE)
    assert of_blocks.value == pytest.approx(of_rows.value, rel=1e-12)
    assert of_blocks.degrees_of_freedom == pytest.approx(19)
    assert of_blocks.num_samples == (2000, None)
    assert abs(math.log(of_blocks.stderr / of_rows.stderr)) < 4.5 * 0.16
    assert abs(of_blocks.bias - of_rows.bias) < of_rows.stderr
    many = fidfast.estimate(moments_of(rows, 500), REFERENCE)
    # With 500 blocks of 4 rows it is 1 / sqrt(2 * 499) = 3 %, or less since both are computed from the same rows.
    assert many.stderr == pytest.approx(of_rows.stderr, rel=4.5 * 0.032)
    assert many.bias == pytest.approx(of_rows.bias, abs=0.1 * of_rows.stderr)


def test_blocks_of_one_row_give_the_estimate_from_rows(rng):
    rows = rng.standard_normal((60, 4)) * 1.3
    of_rows, of_blocks = fidfast.estimate(rows, REFERENCE), fidfast.estimate(moments_of(rows, 60), REFERENCE)
    # Only the quadrature of the distances without a row differs, by 1e-7 of a row's contribution.
    assert of_blocks.bias == pytest.approx(of_rows.bias, rel=1e-5)
    assert of_blocks.stderr == pytest.approx(of_rows.stderr, rel=1e-5)


def test_blocks_of_unequal_size_are_weighted_by_their_rows():
    """With the weights of Busing et al. (1999) the standard error is within the sampling error above for any sizes."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3000, 4)) * 1.2
    parts = np.split(rows, np.cumsum(rng.integers(60, 240, 19)))
    uneven = Moments.from_blocks([moments_of(part, 1) for part in parts])
    of_rows, of_blocks = fidfast.estimate(rows, REFERENCE), fidfast.estimate(uneven, REFERENCE)
    assert abs(math.log(of_blocks.stderr / of_rows.stderr)) < 4.5 * 0.16 * 1.3
    assert abs(of_blocks.bias - of_rows.bias) < of_rows.stderr


def test_estimate_of_blocks_on_either_side_or_both(rng):
    rows, others = rng.standard_normal((400, 4)) * 1.2, rng.standard_normal((300, 4))
    for pair in ((moments_of(rows), moments_of(others)), (rows, moments_of(others)), (moments_of(rows), others)):
        found = fidfast.estimate(*pair)
        assert found.num_samples == (400, 300)
        assert found.degrees_of_freedom >= 19  # a sum has more than its smallest term
        assert found.note is None
        assert found.stderr == pytest.approx(fidfast.estimate(rows, others).stderr, rel=0.7)


def test_empty_blocks_are_ignored(rng):
    few = moments_of(rng.standard_normal((12, 2)), 20)
    reference = GaussianStats(np.zeros(2), np.eye(2))
    assert fidfast.estimate(few, reference).degrees_of_freedom == pytest.approx(11)
    one = moments_of(np.zeros((0, 2)), 20)
    one.merge(Moments.from_blocks([moments_of(rng.standard_normal((50, 2)), 1), *[Moments(2)] * 19]))
    with pytest.raises(ValueError) as caught:
        fidfast.estimate(one, reference)
    assert str(caught.value) == (
        "samples has no samples to estimate an error from: pass the (n, dim) features or Moments(dim, blocks=20)"
    )


def test_too_few_samples_without_the_largest_block(rng):
    two = moments_of(rng.standard_normal((30, 8)), 2)
    reference = GaussianStats(np.zeros(8), np.eye(8))
    expected = (
        "samples has 30 samples; an error bar needs at least 31, 2 per direction with nonzero variance (8) plus 15"
    )
    assert fidfast.estimate(two, reference).note == expected
    expected = r"^samples has 2 samples; the jackknife leaves out 1 at a time and needs at least 3$"
    with pytest.raises(ValueError, match=expected):
        fidfast.estimate(moments_of(rng.standard_normal((2, 8)), 2), reference)


def test_checkpoints_keep_blocks_and_unfinished_runs_are_rejected(rng, tmp_path):
    moments = moments_of(rng.standard_normal((400, 4)))
    moments.save(tmp_path / "blocks.npz")
    assert fidfast.estimate(tmp_path / "blocks.npz", REFERENCE) == fidfast.estimate(moments, REFERENCE)
    write_state(tmp_path / "partial.npz", State("Moments", moments.state(), Progress("job", 400)))
    message = r"^samples: .*partial\.npz holds a checkpoint of an unfinished run \(400 images done\), not statistics or"
    with pytest.raises(ValueError, match=message):
        fidfast.estimate(tmp_path / "partial.npz", REFERENCE)


def test_estimate_with_units_that_are_nonzero_in_one_row(rng):
    """Their scatter is that of one block, up to the rounding of float32 products."""
    samples, reference = (rng.standard_normal((n, 512)).astype(np.float32) for n in (10_000, 3_000))
    samples[:, :256] = 0
    samples[rng.integers(10_000, size=256), np.arange(256)] = rng.uniform(1e-4, 1e-3, 256)
    moments = fidfast.Moments(512, blocks=20)
    for first in range(0, len(samples), 250):
        moments.update(samples[first : first + 250])
    found = fidfast.estimate(moments, fidfast.Moments.from_features(reference).stats())
    assert math.isfinite(found.stderr)
    # The products of the two streams are in blocks of different rows: up to 1e-6 of the distance, as documented.
    assert found.value == pytest.approx(fidfast.frechet_distance(samples, reference), rel=1e-6)
