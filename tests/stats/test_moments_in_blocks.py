"""Moments in blocks: the same moments, and what an error bar can be made of."""

import copy
import math
import pickle

import numpy as np
import pytest

import fidfast
from fidfast import GaussianStats, Moments
from fidfast._files import Progress, State, write_state

KNOWN = GaussianStats(np.zeros(4), np.eye(4))


def of(rows, blocks=20, batches=(), **options):
    moments = Moments(rows.shape[1], blocks=blocks, **options)
    for batch in np.split(rows, batches):
        moments.update(batch)
    return moments


def counts(moments):
    return [block.num_samples for block in moments.blocks]


def assert_close(a, b):
    """Rows of float64 give the same within 1e-12, however they are split."""
    np.testing.assert_allclose(a.stats().mu, b.stats().mu, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.stats().sigma, b.stats().sigma, rtol=0, atol=1e-12 * np.abs(b.stats().sigma).max())


# Moments ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [2, 7, 20])
@pytest.mark.parametrize("batch", [1, 3, 20, 33, 500])
def test_rows_are_dealt_out_evenly_and_together_are_the_whole(rng, blocks, batch):
    rows = rng.standard_normal((500, 4)) + 3
    moments = of(rows, blocks, range(batch, 500, batch))
    assert moments.num_samples == sum(counts(moments)) == 500
    assert max(counts(moments)) - min(counts(moments)) <= 1
    assert_close(moments, of(rows, 1))
    assert len(moments.blocks) == blocks


def test_batches_of_random_size_are_dealt_out_evenly_too(rng):
    moments = Moments(4, blocks=20)
    for n in rng.integers(0, 60, 50):
        moments.update(rng.standard_normal((n, 4)))
        assert max(counts(moments)) - min(counts(moments)) <= 1


def test_every_row_is_in_one_block(rng):
    moments = of(np.arange(100.0)[:, None], 10, [7, 9, 50])
    sums = [block.num_samples * float(block.stats().mu[0]) for block in moments.blocks]
    assert sum(sums) == pytest.approx(np.arange(100).sum(), rel=1e-14)
    assert all(isinstance(block, Moments) and len(block.blocks) == 1 for block in moments.blocks)


def test_a_rejected_batch_changes_no_block(rng):
    moments = of(rng.standard_normal((50, 4)), 5)
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


def test_merge_and_unmerge_go_block_by_block(rng):
    rows, more = rng.standard_normal((200, 4)), rng.standard_normal((150, 4))
    moments, other = of(rows), of(more)
    total = moments + other
    assert counts(total) == [a + b for a, b in zip(counts(moments), counts(other), strict=True)]
    assert_close(total, of(np.concatenate([rows, more]), 1))
    total.unmerge(other)
    assert counts(total) == counts(moments)
    assert_close(total, moments)
    single = of(rows, 1)
    single += other  # one block takes all
    assert_close(single, of(np.concatenate([rows, more]), 1))
    single.unmerge(other)
    assert_close(single, of(rows, 1))


def test_an_unmerge_that_fails_in_one_block_changes_none(rng):
    moments = of(rng.standard_normal((40, 4)), 2)
    before = copy.copy(moments)
    other = Moments.from_blocks([moments.blocks[0], of(rng.standard_normal((60, 4)), 1)])
    with pytest.raises(ValueError, match="60"):
        moments.unmerge(other)
    assert moments == before


def test_blocks_that_do_not_fit_are_refused(rng):
    rows = rng.standard_normal((100, 4))
    for verb in ("merge", "unmerge"):
        with pytest.raises(ValueError, match=f"cannot {verb} moments of 10 blocks and moments of 20 blocks"):
            getattr(of(rows), verb)(of(rows, 10))
        with pytest.raises(ValueError, match=f"cannot {verb} moments of 1 blocks and moments of 20 blocks"):
            getattr(of(rows), verb)(of(rows, 1))
    for blocks in (0, -1):
        with pytest.raises(ValueError, match=f"blocks must be at least 1, got {blocks}"):
            Moments(4, blocks=blocks)
    with pytest.raises(TypeError):
        Moments(4, blocks=2.5)


def test_saved_pickled_and_copied_they_are_the_same(rng, tmp_path):
    moments = of(rng.standard_normal((300, 4)), 7, extractor="net")
    moments.save(tmp_path / "moments.npz")
    for twin in (
        Moments.load(tmp_path / "moments.npz"),
        pickle.loads(pickle.dumps(moments)),
        copy.copy(moments),
        copy.deepcopy(moments),
    ):
        assert twin == moments
        assert (len(twin.blocks), twin.extractor, counts(twin)) == (7, "net", counts(moments))
        twin.update(np.zeros((1, 4)))
        assert twin != moments
    assert moments != of(rng.standard_normal((300, 4)), 6, extractor="net")
    assert repr(moments) == "Moments(dim=4, num_samples=300, precision='float32', extractor='net', blocks=7)"


def test_reset_forgets_all_blocks(rng):
    moments = of(rng.standard_normal((300, 4)), 7)
    moments.reset()
    assert (moments.num_samples, counts(moments)) == (0, [0] * 7)
    assert moments == Moments(4, blocks=7)


# What they are for --------------------------------------------------------------------------------------------------


def test_an_estimate_from_blocks_is_near_that_from_rows():
    """A standard error of 20 blocks scatters by 1 / sqrt(2 * 19) = 16 %: 4.5 of these are missed 7 times in 1e6."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((2000, 4)) * 1.2
    of_rows, of_blocks = fidfast.estimate(rows, KNOWN), fidfast.estimate(of(rows), KNOWN)
    assert of_blocks.value == pytest.approx(of_rows.value, rel=1e-12)
    assert of_blocks.degrees_of_freedom == pytest.approx(19)
    assert of_blocks.num_samples == (2000, None)
    assert abs(math.log(of_blocks.stderr / of_rows.stderr)) < 4.5 * 0.16
    assert abs(of_blocks.bias - of_rows.bias) < of_rows.stderr
    many = fidfast.estimate(of(rows, 500), KNOWN)
    # With 500 blocks of 4 rows it is 1 / sqrt(2 * 499) = 3 %, and less since they share the rows.
    assert many.stderr == pytest.approx(of_rows.stderr, rel=4.5 * 0.032)
    assert many.bias == pytest.approx(of_rows.bias, abs=0.1 * of_rows.stderr)


def test_blocks_of_one_row_are_the_rows(rng):
    rows = rng.standard_normal((60, 4)) * 1.3
    of_rows, of_blocks = fidfast.estimate(rows, KNOWN), fidfast.estimate(of(rows, 60), KNOWN)
    # Each distance anew, but for the quadrature of the rows' 1e-7 of a row's share.
    assert of_blocks.bias == pytest.approx(of_rows.bias, rel=1e-5)
    assert of_blocks.stderr == pytest.approx(of_rows.stderr, rel=1e-5)


def test_blocks_of_unequal_size_count_by_their_rows():
    """Busing et al.'s weights: the same spread whatever the sizes, which is within the sampling error above."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((3000, 4)) * 1.2
    parts = np.split(rows, np.cumsum(rng.integers(60, 240, 19)))
    uneven = Moments.from_blocks([of(part, 1) for part in parts])
    of_rows, of_blocks = fidfast.estimate(rows, KNOWN), fidfast.estimate(uneven, KNOWN)
    assert abs(math.log(of_blocks.stderr / of_rows.stderr)) < 4.5 * 0.16 * 1.3
    assert abs(of_blocks.bias - of_rows.bias) < of_rows.stderr


def test_both_sides_in_blocks_or_one_in_rows(rng):
    rows, others = rng.standard_normal((400, 4)) * 1.2, rng.standard_normal((300, 4))
    for pair in ((of(rows), of(others)), (rows, of(others)), (of(rows), others)):
        found = fidfast.estimate(*pair)
        assert found.num_samples == (400, 300)
        assert found.degrees_of_freedom >= 19  # that of a sum is more than of its parts
        assert found.note is None
        assert found.stderr == pytest.approx(fidfast.estimate(rows, others).stderr, rel=0.7)


def test_empty_blocks_are_none(rng):
    few = of(rng.standard_normal((12, 2)), 20)
    known = GaussianStats(np.zeros(2), np.eye(2))
    assert fidfast.estimate(few, known).degrees_of_freedom == pytest.approx(11)
    one = of(np.zeros((0, 2)), 20)
    one.merge(Moments.from_blocks([of(rng.standard_normal((50, 2)), 1), *[Moments(2)] * 19]))
    with pytest.raises(ValueError, match="features are statistics alone"):
        fidfast.estimate(one, known)


def test_what_is_left_of_blocks_must_be_enough(rng):
    two = of(rng.standard_normal((30, 8)), 2)
    known = GaussianStats(np.zeros(8), np.eye(8))
    assert fidfast.estimate(two, known).note == "features has 30 samples, and 8 directions that vary need 31"
    with pytest.raises(ValueError, match="features has 2 samples, too few to leave any out"):
        fidfast.estimate(of(rng.standard_normal((2, 8)), 2), known)


def test_a_checkpoint_keeps_them_and_an_unfinished_run_is_refused(rng, tmp_path):
    moments = of(rng.standard_normal((400, 4)))
    moments.save(tmp_path / "blocks.npz")
    assert fidfast.estimate(tmp_path / "blocks.npz", KNOWN) == fidfast.estimate(moments, KNOWN)
    progress = Progress("job", 400)
    write_state(tmp_path / "partial.npz", State("Moments", moments.state(), progress))
    with pytest.raises(ValueError, match=r"features: .*partial.npz: a run that has not come to its end, after 400"):
        fidfast.estimate(tmp_path / "partial.npz", KNOWN)
