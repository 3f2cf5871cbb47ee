"""Moments as bytes."""

import numpy as np
import pytest

from fidfast import ClassMoments, Moments
from fidfast._stats.serialization import pack_moments, unpack_moments


def moments(rng, n, **options):
    made = Moments(3, **options)
    made.update(rng.standard_normal((n, 3)).astype(np.float32))
    return made


def class_moments(rng, n, labels, **options):
    made = ClassMoments(3, **options)
    made.update(rng.standard_normal((n, 3)), [labels[i % len(labels)] for i in range(n)])
    return made


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: Moments(3),
        lambda rng: moments(rng, 2, extractor="näme"),
        lambda rng: moments(rng, 3000, blocks=3),
        lambda rng: ClassMoments(3, num_classes=4),
        lambda rng: class_moments(rng, 50, [1, 3], num_classes=4),
        lambda rng: class_moments(rng, 50, ["a", "bc"]),
    ],
)
def test_unpacking_is_the_inverse(make, rng):
    packed = pack_moments(make(np.random.default_rng(0)))
    made = unpack_moments(packed)
    assert made == make(np.random.default_rng(0))
    assert pack_moments(made) == packed


def test_bytes_that_are_cut_off_are_refused(rng):
    packed = pack_moments(moments(rng, 10))
    for size in (len(packed) - 1, len(packed) // 2, 4):
        with pytest.raises((KeyError, TypeError, ValueError)):
            unpack_moments(packed[:size])
