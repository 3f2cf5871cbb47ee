"""Masked arrays are refused with the name of the argument; a mask without masked values is accepted."""

import numpy as np
import pytest
import torch

import fidfast
from fidfast._images import open_images
from fidfast._inputs import open_input
from fidfast.torch._images.items import image_pixels
from fidfast.torch._images.options import ImageOptions
from fidfast.torch._images.pixels import image_batch
from fidfast.torch._images.sources import open_source

ROWS = np.random.default_rng(0).normal(size=(60, 3))
MASK = ROWS > 1
FEATURES = np.ma.masked_array(ROWS, MASK)
MU, SIGMA = ROWS.mean(0), np.cov(ROWS.T)
IMAGES = np.ma.masked_array(
    np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)[:, None, None, None] + np.zeros((8, 8, 3)) < 1
)
LABELS = np.ma.masked_array(np.zeros(60, np.int64), np.arange(60) < 3)
PROBABILITIES = np.ma.masked_array(np.full((60, 4), 0.25), np.eye(60, 4))
COUNT = f"{MASK.sum()} of 180 values are masked"

CALLS = {
    "features_a": (lambda: fidfast.fid(FEATURES, ROWS), COUNT),
    "features_b": (lambda: fidfast.fid(ROWS, FEATURES), COUNT),
    "samples": (lambda: fidfast.kid(FEATURES, ROWS), COUNT),
    "reference": (lambda: fidfast.precision_recall(ROWS, FEATURES), COUNT),
    "features": (lambda: fidfast.Moments(3).update(FEATURES), COUNT),
    "features of from_features": (lambda: fidfast.Moments.from_features(FEATURES), COUNT),
    "features of ClassMoments": (lambda: fidfast.ClassMoments(3).update(FEATURES, 0), COUNT),
    "labels": (lambda: fidfast.ClassMoments(3).update(ROWS, LABELS), "3 of 60"),
    "mu": (lambda: fidfast.GaussianStats(np.ma.masked_less(MU, MU.max()), SIGMA), "2 of 3"),
    "sigma": (lambda: fidfast.GaussianStats(MU, np.ma.masked_array(SIGMA, np.eye(3))), "3 of 9"),
    "a in a pair": (lambda: open_input((MU, np.ma.masked_array(SIGMA, np.eye(3))), "a"), "3 of 9"),
    "a in a dictionary": (
        lambda: open_input({"mu": MU, "sigma": np.ma.masked_array(SIGMA, np.eye(3))}, "a"),
        "'sigma': 3",
    ),
    "a in a list": (lambda: open_input([FEATURES, FEATURES], "a"), COUNT),
    "predictions": (lambda: fidfast.inception_score(PROBABILITIES), "4 of 240"),
    "images": (lambda: open_images(IMAGES), "192 of 768"),
    "source of images": (lambda: open_source(IMAGES, ImageOptions()), "192 of 768"),
    "images of a batch": (lambda: image_batch(IMAGES), "192 of 768"),
    "image": (lambda: image_pixels(IMAGES[0]), "192 of 192"),
    "a of torch": (
        lambda: open_input(torch.masked.masked_tensor(torch.tensor(ROWS), torch.tensor(~MASK)), "a"),
        COUNT,
    ),
    "a of records": (
        lambda: open_input(np.ma.masked_array(np.zeros(3, [("x", "f8"), ("y", "f8")]), mask=[(1, 0)] * 3), "a"),
        "3 of 6",
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
@pytest.mark.parametrize("name", CALLS)
def test_masked_values_are_refused(name):
    call, count = CALLS[name]
    with pytest.raises(ValueError, match=rf"^{name.split(' ')[0]}: .*{count}"):
        call()


def test_a_rejected_batch_changes_nothing():
    moments = fidfast.Moments.from_features(ROWS)
    before = moments.stats()
    with pytest.raises(ValueError, match="masked"):
        moments.update(FEATURES)
    assert moments.num_samples == 60
    np.testing.assert_array_equal(moments.stats().sigma, before.sigma)


@pytest.mark.parametrize("mask", [np.ma.nomask, np.zeros_like(MASK)])
def test_a_mask_without_masked_values_is_accepted(mask):
    assert fidfast.fid(np.ma.masked_array(ROWS, mask), ROWS[:50]) == fidfast.fid(ROWS, ROWS[:50])
