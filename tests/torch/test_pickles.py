"""Pickles contain public module paths only, so that later versions can read them."""

import io
import pickle

import numpy as np
import pytest
import timm
import torch

import fidfast.torch as ft


class Network(torch.nn.Module):
    """A network with a batch norm."""

    input_size = 8

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))


def module_paths(data):
    """Modules of all objects that a pickle refers to."""
    paths = set()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            paths.add(module)
            return super().find_class(module, name)

    return Unpickler(io.BytesIO(data)).load(), paths


def assert_public(value):
    restored, paths = module_paths(pickle.dumps(value))
    private = [path for path in paths if path.startswith("fidfast") and "._" in path]
    assert not private
    return restored


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


EXTRACTORS = {
    "network": lambda: ft.as_extractor(Network()),
    "prepared": lambda: ft.as_extractor(Network()).prepared(),
    "layer": lambda: ft.as_extractor(ft.at_layer(torch.nn.Sequential(Network(), torch.nn.Linear(5, 2)), "0")),
    "timm": lambda: ft.as_extractor(timm.create_model("resnet18", pretrained=False)),
    "efficientnet-lite0": lambda: ft.load_extractor("efficientnet-lite0"),
    "prepared efficientnet-lite0": lambda: ft.load_extractor("efficientnet-lite0").prepared(),
}


@pytest.mark.parametrize("kind", EXTRACTORS)
def test_extractors(kind, images):
    extractor = EXTRACTORS[kind]()
    restored = assert_public(extractor)
    assert restored.full_name == extractor.full_name
    with torch.inference_mode():
        assert torch.equal(restored(images.repeat(1, 1, 8, 8)), extractor(images.repeat(1, 1, 8, 8)))


def test_inception(weights):
    with pytest.warns(UserWarning, match="not those of"):
        extractor = ft.load_extractor("inception", weights=weights)
    assert assert_public(extractor).full_name == extractor.full_name


def test_metric(images, rng):
    metric = ft.FrechetDistance(Network(), rng.standard_normal((20, 5)))
    metric.update(images)
    restored = assert_public(metric)
    for one in (metric, restored):
        one.update(images.flip(0))
    assert restored.compute() == metric.compute()
    assert restored.moments == metric.moments


@pytest.mark.parametrize("running_stats", [ft.FeatureQueue(5, 10), ft.MovingMoments(5, 0.9)], ids=["queue", "moving"])
def test_losses(running_stats, rng):
    loss = ft.FrechetLoss(rng.standard_normal((20, 5)), running_stats=running_stats)
    rows = torch.from_numpy(rng.standard_normal((6, 5)))
    loss(rows)
    assert torch.equal(assert_public(loss)(rows), loss(rows))


def test_options_and_results(rng):
    options = ft.ImageOptions(batch_size=3, blocks=2)
    assert assert_public(options) == options
    assert assert_public(ft.LIKE) == ft.LIKE
    images = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    restored = assert_public(ft.moments_of_images(images, Network(), options=options))
    assert restored.moments.num_samples == 5
    assert repr(type(restored)) == "<class 'fidfast.torch.ImageMoments'>"
