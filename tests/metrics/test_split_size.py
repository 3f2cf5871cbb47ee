"""`InceptionScore(split_size=)`: consecutive splits of a fixed size in a stream of unknown length."""

import copy
import itertools

import numpy as np
import pytest
import reference

from fidfast import InceptionScore, inception_score

#: Sums of at most some hundred terms of at most log(7), each rounded to eps = 2e-16, in exp.
CLOSE = 1e-12


def score_of(*batches, **options):
    score = InceptionScore(7, **options)
    for batch in batches:
        score.update(batch)
    return score


@pytest.mark.parametrize("size", [1, 7, 64, 100, 300, 1000])
def test_splits_grow_with_the_stream(rng, size):
    """A stream, parts with `first` merged in any order, and the array give the plain formula of each slice."""
    logits = 3.0 * rng.standard_normal((300, 7))
    cuts = sorted(rng.integers(0, 301, 6))
    slices = [logits[i : i + size] for i in range(0, 300, size)]
    expected = [reference.inception_score(reference.softmax(part)) for part in slices]
    stream = score_of(*np.split(logits, cuts), split_size=size)
    bounds = [0, *cuts, 300]
    parts = [score_of(logits[i:j], split_size=size, first=i) for i, j in itertools.pairwise(bounds)]
    merged = InceptionScore(7, split_size=size)
    for i in rng.permutation(len(parts)):
        merged.merge(parts[i])
        assert InceptionScore.from_state(merged.state()) == merged
    for result in (stream.compute(), merged.compute(), inception_score(logits, split_size=size, like="adm")):
        np.testing.assert_allclose(result.scores, expected, rtol=CLOSE)
        assert result.mean == pytest.approx(np.mean(expected), rel=CLOSE)
        assert result.std == pytest.approx(np.std(expected), abs=CLOSE * np.max(expected))
    assert stream.splits == merged.splits == len(expected)
    assert stream.split_size == size


def test_a_part_of_a_stream_holds_its_own_splits_only(rng):
    logits = rng.standard_normal((25, 7))
    part = score_of(logits, split_size=10, first=10**15)
    assert part.splits == 3
    np.testing.assert_allclose(part.compute().scores, score_of(logits, split_size=10).compute().scores, rtol=CLOSE)


def test_splits_beyond_1_gb_are_refused(rng):
    logits = rng.standard_normal((5, 7))
    score, far = (score_of(logits, split_size=1, first=first) for first in (0, 2**40))
    before = copy.copy(score)
    with pytest.raises(ValueError, match=r"^the rows are in splits 0 to \d+, but at most \d+ splits of 7 classes fit"):
        score.merge(far)
    assert score == before


def test_a_missing_split_is_reported(rng):
    score = score_of(rng.standard_normal((10, 7)), split_size=10)
    score.merge(score_of(rng.standard_normal((10, 7)), split_size=10, first=20))
    with pytest.raises(ValueError, match=r"^split 1 has no rows: got 20 rows for split_size=10$"):
        score.compute()
