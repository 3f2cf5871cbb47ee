"""A network in a wrapper has the same features and name as without it, and networks of one class differ in name."""

import copy
import functools
import warnings

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.optim.swa_utils import AveragedModel

import fidfast
import fidfast.torch as ft


class Network(nn.Module):
    """A small network with a preprocessing of its own."""

    input_size = (6, 8)
    input_range = (-1, 1)
    num_features = 5

    def __init__(self, seed=0):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.classifier = nn.Linear(5, 2)
        random = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=random)

    def forward(self, images):
        return self.layers(images).mean(dim=(2, 3))

    def features(self, images):
        return self(images)


class Held(nn.Module):
    """A wrapper with one submodule."""

    def __init__(self, held, name):
        super().__init__()
        setattr(self, name, held)
        self.held_as = name

    def forward(self, images):
        return getattr(self, self.held_as)(images)


class WithoutForward(nn.Module):
    """Like timm's ModelEmaV2."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def in_accelerate(network):
    """What `Accelerator(mixed_precision="bf16").prepare` does to a network."""
    network._original_forward = network.forward
    autocast = torch.autocast("cpu", dtype=torch.bfloat16)
    network.forward = type(network.forward)(autocast(type(network).forward), network)
    return network


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "AveragedModel": AveragedModel,
    "like compiled": lambda net: Held(net, "_orig_mod"),
    "DataParallel of AveragedModel": lambda net: nn.DataParallel(AveragedModel(net)),
    "PEFT": lambda net: Held(Held(net, "model"), "base_model"),
    "base_model": lambda net: Held(net, "base_model"),
    "module": lambda net: Held(net, "module"),
    "without forward": WithoutForward,
    "accelerate": in_accelerate,
}
COMPILED = {
    "compiled": lambda net: torch.compile(net),
    "compiled DataParallel": lambda net: torch.compile(nn.DataParallel(net)),
}
wrappers = pytest.mark.parametrize(
    "wrap",
    [
        *(pytest.param(wrap, id=name) for name, wrap in WRAPPERS.items()),
        # The import of the compiler takes seconds.
        *(pytest.param(wrap, id=name, marks=pytest.mark.slow) for name, wrap in COMPILED.items()),
    ],
)


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.integers(0, 256, (9, 3, 10, 10), dtype=np.uint8))


def features(extractor, images):
    with torch.inference_mode():
        return extractor(images)


@wrappers
def test_features_and_names_are_those_of_the_network(wrap, images):
    network = Network()
    expected = ft.as_extractor(network)
    got = ft.as_extractor(wrap(copy.deepcopy(network)))
    assert got.full_name == expected.full_name
    assert (got.input_size, got.num_features, got.offset) == ((6, 8), 5, expected.offset)
    prepared = got.prepared()
    assert prepared.full_name == expected.full_name
    small = ft.RESIZES["pil-bicubic"](images.float(), (6, 8))
    # Folded batch norms: a few roundings of float32.
    torch.testing.assert_close(features(prepared, small), features(expected, small), rtol=1e-5, atol=1e-5)


@wrappers
def test_every_entry_point_finds_the_network(wrap, images):
    network = Network().eval()
    expected = ft.stats_of_images(images.numpy(), network)
    wrapped = wrap(copy.deepcopy(network))
    metric = ft.FrechetDistance(wrapped, expected)
    metric.update(images)
    statistics = {
        "stats_of_images": ft.stats_of_images(images.numpy(), wrapped),
        "FrechetDistance": metric.moments.stats(),
        "moments_of_samples": ft.moments_of_samples(lambda n: images[:n], 9, wrapped).stats(),
        "prepare": ft.stats_of_images(images.numpy(), ft.prepare(wrapped)),
    }
    for name, stats in statistics.items():
        assert stats.extractor == expected.extractor, name
        # The rounding of features of order 1, and of the resize of a batch.
        np.testing.assert_allclose(stats.mu, expected.mu, rtol=1e-4, atol=1e-4, err_msg=name)


@wrappers
def test_layers_of_wrapped_networks(wrap, images):
    expected = ft.as_extractor(ft.at_layer(nn.Sequential(Network().layers, nn.AdaptiveAvgPool2d(1)), "1"))
    network = nn.Sequential(Network().layers, nn.AdaptiveAvgPool2d(1))
    network.input_range = (-1, 1)
    plain = ft.as_extractor(ft.at_layer(network, "1"))
    wrapped = ft.as_extractor(ft.at_layer(wrap(network), "1"))
    assert plain.full_name == wrapped.full_name == expected.full_name
    assert plain.offset == wrapped.offset != expected.offset
    torch.testing.assert_close(features(wrapped, images), features(plain, images))


def test_layers_by_their_path_in_the_wrapper(images):
    network = nn.Sequential(Network().layers, nn.AdaptiveAvgPool2d(1))
    at_path = ft.as_extractor(ft.at_layer(nn.DataParallel(network), "module.1"))
    torch.testing.assert_close(features(at_path, images), features(ft.as_extractor(ft.at_layer(network, "1")), images))
    with pytest.raises(AttributeError, match="has no attribute `2`"):
        ft.at_layer(nn.DataParallel(network), "2")


@wrappers
def test_attributes_of_the_wrapper_win(wrap):
    wrapped = wrap(Network())
    wrapped.input_size, wrapped.input_range, wrapped.name = 12, (0, 1), "mine"
    extractor = ft.as_extractor(wrapped)
    assert (extractor.full_name, extractor.num_features) == ("mine/pil-bicubic-12", 5)
    assert extractor.offset == (0, 0, 0)


def test_wrappers_that_compute_something_are_called(images):
    class Negative(Held):
        def forward(self, images):
            return -super().forward(images)

    network = Network()
    small = images[:, :, :6, :8]
    expected = -features(ft.as_extractor(network), small)
    for name in ("module", "base_model"):
        torch.testing.assert_close(features(ft.as_extractor(Negative(network, name)), small), expected)
    # Under any other name it is an ordinary network, with its own preprocessing.
    assert ft.as_extractor(Held(network, "backbone")).input_size is None


def test_preprocessing_of_a_part_is_not_ignored_silently():
    """The network may convert the images itself, so the attributes of its part are not used."""
    network = Held(Network(), "model")
    with pytest.warns(UserWarning, match="Held has no input_") as caught:
        assert ft.as_extractor(network).input_size is None
    assert [str(warning.message).split(":")[0].split("has ")[-1] for warning in caught] == [
        "input_size=(6, 8), which is not used",
        "input_range=(-1, 1), which is not used",
    ]
    network.input_size, network.input_range = 12, (0, 1)
    assert ft.as_extractor(network).input_size == (12, 12)


def test_hooks_of_a_wrapper_are_called(images):
    wrapped = nn.DataParallel(Network())
    wrapped.register_forward_hook(lambda _module, _inputs, output: -output)
    small = images[:, :, :6, :8]
    expected = -features(ft.as_extractor(Network()), small)
    torch.testing.assert_close(features(ft.as_extractor(wrapped).prepared(), small), expected)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("kind", ["DistributedDataParallel", "fully_shard"])
@pytest.mark.filterwarnings("ignore:.*FSDP")
def test_distributed_networks(kind, images):
    network = Network()
    expected = ft.stats_of_images(images.numpy(), network)
    if kind == "fully_shard":
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        wrapped = torch.distributed.fsdp.fully_shard(network, mesh=mesh)
        name = "Network/pil-bicubic-6x8"  # a process holds a part of the weights
    else:
        wrapped = nn.parallel.DistributedDataParallel(network)
        name = expected.extractor
    stats = ft.stats_of_images(images.numpy(), wrapped)
    assert stats.extractor == name
    np.testing.assert_allclose(stats.mu, expected.mu, rtol=1e-5, atol=1e-5)
    assert wrapped.training


# Names --------------------------------------------------------------------------------------------------------------


def test_networks_of_timm_have_the_name_of_their_architecture(images):
    wrapped = nn.DataParallel(timm.create_model("test_resnet", pretrained=False))
    extractor, again = ft.as_extractor(wrapped), ft.as_extractor(wrapped.module)
    assert extractor.name.startswith("test_resnet.")
    assert extractor.full_name == again.full_name
    assert (extractor.input_size, extractor.offset) == (again.input_size, again.offset)
    torch.testing.assert_close(features(extractor, images), features(again, images))
    wrapped.input_size = 40
    assert ft.as_extractor(wrapped).input_size == (40, 40)
    assert ft.as_extractor(wrapped).offset == again.offset
    # The preprocessing is that of the network at a layer too.
    layer = ft.as_extractor(ft.at_layer(wrapped.module, "global_pool"))
    assert (layer.offset, layer.divisor, layer.input_size) == (again.offset, again.divisor, again.input_size)


def warned_of(one, two, images):
    rows = images.numpy().reshape(9, -1)[:, :2].astype(np.float32)
    stats = [
        fidfast.Moments.from_features(rows, extractor=ft.as_extractor(net).full_name).stats() for net in (one, two)
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fidfast.fid(*stats)
    return any("the result is not meaningful" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torchvision.models.squeezenet1_0, torchvision.models.squeezenet1_1),
        (lambda: Network(0), lambda: Network(1)),
        (lambda: ft.at_layer(Network(0), "layers"), lambda: ft.at_layer(Network(1), "layers")),
        (lambda: Network(0).features, lambda: Network(1).features),
        (lambda: ft.prepare(Network(0)), lambda: ft.prepare(Network(1))),
        (lambda: torch.jit.script(nn.Linear(2, 3)), lambda: torch.jit.script(nn.Linear(3, 2))),
        (lambda: np.mean, lambda: np.sum),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_different_networks_of_one_class_are_noticed(one, two, images):
    assert warned_of(one(), two(), images)
    network = one()
    assert not warned_of(network, network, images)


def test_names_do_not_depend_on_training_state_device_or_dtype(images):
    network = Network()
    name = ft.as_extractor(network).full_name
    assert name.startswith("Network-weights-")
    assert name.endswith("/pil-bicubic-6x8")
    network.layers[1].num_batches_tracked += 7
    assert ft.as_extractor(copy.deepcopy(network).double().eval()).full_name == name
    assert ft.as_extractor(ft.prepare(network)).full_name == name
    assert ft.as_extractor(network, name="mine").full_name == "mine/pil-bicubic-6x8"
    with torch.no_grad():
        network.classifier.bias[1] += 1e-6
    assert ft.as_extractor(network).full_name != name


def test_names_of_transformers_and_functions():
    network = Network()
    network.name_or_path = "facebook/dinov2-base"
    assert ft.as_extractor(network).name == "facebook--dinov2-base"

    def encode(images):
        return images.mean(dim=(2, 3))

    assert ft.as_extractor(encode).full_name == "encode"
    assert ft.as_extractor(functools.partial(encode)).full_name == "encode"
    method = ft.as_extractor(Network().layers.forward)
    assert method.full_name == ft.as_extractor(Network().layers).full_name
    method = ft.as_extractor(Network().features)
    assert (method.name, method.input_size) == ("Network.features", (6, 8))


def test_metric_warns_of_a_reference_of_another_network(images):
    reference = ft.stats_of_images(images.numpy(), Network(0))
    with pytest.warns(UserWarning, match="the two inputs have different extractors, 'Network-weights-") as caught:
        ft.FrechetDistance(Network(1), reference)
    assert caught[0].filename == __file__
