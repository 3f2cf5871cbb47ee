"""Networks that hold another network and compute something with it, callables of networks, and their attributes."""

import functools
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import fidfast.torch as ft


class Backbone(nn.Module):
    """Like a network of timm: its features are not what it returns."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.classifier = nn.Linear(4, 2)
        self.num_features = 4

    def forward_features(self, images):
        return self.layers(images)

    def forward(self, images):
        return self.classifier(self.forward_features(images).mean(dim=(2, 3)))


class Normalized(nn.Module):
    def __init__(self, held, name):
        super().__init__()
        setattr(self, name, held)
        self.held_as = name

    def forward(self, images):
        return nn.functional.normalize(getattr(self, self.held_as)(images))


class Projected(nn.Module):
    def __init__(self, held, seed=0):
        super().__init__()
        self.base_model = held
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.proj = nn.Linear(2, 7)

    def forward(self, images):
        return self.proj(self.base_model(images))


class AveragedAndNormalized(AveragedModel):
    def forward(self, images):
        return nn.functional.normalize(super().forward(images))


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.integers(0, 256, (9, 3, 8, 8), dtype="uint8"))


HOLDERS = {
    "module": lambda net: Normalized(net, "module"),
    "base_model": lambda net: Normalized(net, "base_model"),
    "projected": Projected,
    "subclass of a wrapper": AveragedAndNormalized,
}


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("wrap", [nn.Identity, nn.DataParallel, AveragedModel])
def test_forward_of_a_holder_is_called(hold, wrap, images):
    holder = hold(Backbone()).eval()
    network = holder if wrap is nn.Identity else wrap(holder)
    extractor = ft.as_extractor(network)
    with torch.inference_mode():
        torch.testing.assert_close(extractor(images), holder(images / 255))
    assert extractor.full_name != ft.as_extractor(Backbone()).full_name
    assert extractor.full_name == ft.as_extractor(holder).full_name


def test_backbones_in_wrappers_return_their_features(images):
    network = Backbone()
    expected = ft.as_extractor(network)
    for wrapper in (nn.DataParallel(network), AveragedModel(network)):
        got = ft.as_extractor(wrapper)
        torch.testing.assert_close(got(images), expected(images))
        assert got.full_name == expected.full_name


def test_names_depend_on_the_weights_of_the_holder():
    network = nn.Sequential(Backbone())
    names = {ft.as_extractor(Projected(network, seed)).full_name for seed in (0, 1)}
    assert len(names | {ft.as_extractor(network).full_name}) == 3
    assert all(name.startswith("Projected-weights-") for name in names)


# Callables ----------------------------------------------------------------------------------------------------------


def ordinary():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.input_size = 6
    return network


CALLABLES = {
    "partial": functools.partial,
    "partial of partial": lambda net: functools.partial(functools.partial(net.forward)),
    "compiled method": lambda net: torch.compile(net.forward, backend="eager"),
    "decorated method": lambda net: torch.no_grad()(net.forward),
    "method": lambda net: net.forward,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("call", CALLABLES.values(), ids=CALLABLES)
def test_callables_of_a_network_are_the_network(call, dtype, images):
    network = ordinary().to(dtype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    expected = ft.as_extractor(network)
    extractor = ft.as_extractor(call(network))
    assert (extractor.full_name, extractor.input_size) == (expected.full_name, (6, 6))
    torch.testing.assert_close(extractor(images), expected(images))
    assert all(part.training for part in network.modules())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_partial_methods_of_a_generator_are_evaluated():
    class Generator(nn.Module):
        def sample(self, scale, n):
            assert not self.training
            return scale * torch.rand(n, 3, 8, 8)

    generator, network = Generator(), ordinary()
    ft.moments_of_samples(functools.partial(generator.sample, 0.5), 9, network)
    assert generator.training


def test_functions_that_call_networks_in_training_mode_warn():
    network = ordinary()
    for function in (lambda images: network(images), functools.partial(lambda net, images: net(images), network)):
        network.train()
        with pytest.warns(UserWarning, match=r"calls the network '.*' \(Sequential\), which is in training mode"):
            ft.as_extractor(function)
        network.eval()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ft.as_extractor(function)


# Attributes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 8), [6, 8], (3, 6, 8), (1, 6, 8), np.array([6, 8]), torch.Size([3, 6, 8])])
def test_input_sizes(size):
    network = ordinary()
    network.input_size = size
    assert ft.as_extractor(network).input_size == (6, 8)
    network.input_size = np.int64(16)
    assert ft.as_extractor(network).input_size == (16, 16)


@pytest.mark.parametrize("size", [(16, 16, 3), (16,), (1, 3, 16, 16), True, (True, 16), 16.0, "16", 0, {"height": 16}])
def test_invalid_input_sizes(size):
    network = ordinary()
    network.input_size = size
    with pytest.raises(ValueError, match=r"input_size must be an int, \(height, width\) or \(3, height, width\)"):
        ft.as_extractor(network)


@pytest.mark.parametrize(
    "bounds", [(0,), (0, 1, 2), "01", "imagenet", 1, (), (1, 0), (0, float("inf")), np.zeros((2, 2))]
)
def test_invalid_input_ranges(bounds):
    network = ordinary()
    network.input_range = bounds
    with pytest.raises(ValueError, match=r"input_range must be \(low, high\)"):
        ft.as_extractor(network)


def test_input_range_as_an_array():
    one, two = ordinary(), ordinary()
    one.input_range, two.input_range = np.array([-1, 1]), (-1, 1)
    assert ft.as_extractor(one).offset == ft.as_extractor(two).offset


def test_methods_are_not_attributes():
    class Network(nn.Sequential):
        def name(self):
            return "mine"

        num_features = input_size = input_range = pretrained_cfg = name

    extractor = ft.as_extractor(Network(*ordinary()))
    assert (extractor.name, extractor.num_features) == ("Network", None)


@pytest.mark.parametrize("inside", [False, True])
def test_exported_networks_run_as_they_are(inside, images):
    network = ordinary().eval()
    batch = torch.export.Dim("batch", min=1, max=99)
    program = torch.export.export(network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    exported = nn.Sequential(program.module(), nn.Dropout(0.5)) if inside else program.module()
    expected = network(images / 255)
    torch.testing.assert_close(ft.as_extractor(exported)(images), expected)
    torch.testing.assert_close(ft.as_extractor(exported).prepared()(images), expected)
    assert exported.training or not inside
