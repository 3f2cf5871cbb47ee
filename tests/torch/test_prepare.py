"""Preparing a network does not change its features."""

import copy
import warnings

import pytest
import timm
import torch
import torchvision
from torch import nn

from fidfast.torch import as_extractor, load_extractor, prepare
from fidfast.torch._extractors.inception import inception_network


def outputs(model, images):
    with torch.inference_mode():
        found = model(images)
    return torch.cat(list(found.values()), dim=1) if isinstance(found, dict) and "pool" in found else found


def largest_error(got, expected):
    return float((got - expected).abs().max() / expected.abs().max())


def with_nontrivial_batch_norms(model):
    """Batch norms that change their input, so that a missing one changes the features."""
    random = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            module.weight.data.uniform_(0.8, 1.2, generator=random)
            module.bias.data.normal_(0, 0.1, generator=random)
    return model


#: Networks of timm, whose batch norms include the activation.
TIMM = ["efficientnet_b0", "mobilenetv3_small_050", "densenet121", "regnetx_002"]


@pytest.fixture(scope="module", params=["inception", "efficientnet-lite0", "resnet18", *TIMM])
def network(request):
    """A network of a common architecture, and the side of its images."""
    if request.param == "inception":
        return inception_network(request.getfixturevalue("weights")), 299
    if request.param == "efficientnet-lite0":
        return load_extractor("efficientnet-lite0").model, 96
    if request.param == "resnet18":
        return with_nontrivial_batch_norms(torchvision.models.resnet18(weights=None)), 64
    return as_extractor(with_nontrivial_batch_norms(timm.create_model(request.param, pretrained=False))).model, 64


@pytest.fixture
def images(network):
    return torch.rand(2, 3, network[1], network[1], generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_float32_features_equal_those_of_the_model(network, images):
    model, _ = network
    before = copy.deepcopy(model.state_dict())
    expected = outputs(model.eval(), images)
    ready = prepare(model)
    # Two roundings of eps per layer, about 50 layers: 6e-6.
    assert largest_error(outputs(ready, images), expected) < 1e-5
    if not isinstance(getattr(model, "model", None), nn.Module):  # timm's batch norms are not folded
        assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    # The model itself is unchanged.
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert largest_error(outputs(model, images), expected) == 0


def test_bfloat16_features_are_close(network, images):
    model, _ = network
    expected = outputs(model.eval(), images)
    got = outputs(prepare(model, dtype="bfloat16"), images)
    assert got.dtype == torch.float32
    # 2^-9 per layer, times sqrt(50) layers, is 1.4 per cent of a typical feature; networks amplify it a few times.
    assert (got - expected).square().mean().sqrt() < 0.1 * expected.square().mean().sqrt()
    assert largest_error(got, expected) > 0


class PartlyFoldable(nn.Module):
    """A convolution whose output is used twice, one that is called twice, and a batch norm before a convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.forked = nn.Conv2d(3, 4, 3)
        self.shared = nn.Conv2d(4, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.plain = nn.Conv2d(4, 5, 1)
        self.last = nn.BatchNorm2d(5)

    def forward(self, images):
        forked = self.forked(self.first(images))
        x = self.norms[0](forked) + forked
        x = self.norms[2](self.shared(self.norms[1](self.shared(x))))
        return self.last(self.plain(x)).mean(dim=(2, 3))


def test_only_foldable_batch_norms_are_folded():
    model = with_nontrivial_batch_norms(PartlyFoldable()).eval()
    images = torch.randn(3, 3, 8, 8)
    ready = prepare(model)
    assert largest_error(outputs(ready, images), outputs(model, images)) < 1e-5
    assert sum(isinstance(module, nn.BatchNorm2d) for module in ready.modules()) == 4


class Standardised(nn.Conv2d):
    """A convolution that normalises its weights."""

    def forward(self, images):
        return self._conv_forward(images, self.weight / self.weight.norm(), self.bias)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (Standardised(3, 4, 3), nn.BatchNorm2d(4)),
        lambda: (nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4)),
        lambda: (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        lambda: (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    ],
)
def test_subclasses_and_unusual_layers(layers):
    model = nn.Sequential(*layers(), nn.Flatten()).eval()
    images = torch.randn(3, 3, 8, 8)
    assert largest_error(outputs(prepare(model), images), outputs(model, images)) < 1e-5


def test_hooks_and_classifiers_are_refused():
    hooked = nn.Sequential(nn.Conv2d(3, 4, 3))
    hooked[0].register_forward_hook(lambda *_call: None)
    with pytest.raises(ValueError, match="Sequential has forward hooks"):
        prepare(hooked)
    with pytest.raises(ValueError, match=r"ResNet does not return its features: use as_extractor\(model\).prepared"):
        prepare(timm.create_model("resnet18", pretrained=False))


def test_attributes_are_kept(small):
    small.name, small.input_size, small.input_range, small.num_features = "small", 8, (-1, 1), 288
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    extractor, ready = as_extractor(small), as_extractor(prepare(small))
    assert ready.full_name == extractor.full_name == "small/pil-bicubic-8"
    assert largest_error(outputs(ready, images), outputs(extractor, images)) < 1e-5
    # A prepared network is not prepared again.
    bfloat16 = extractor.prepared(dtype="bfloat16")
    assert bfloat16.prepared() is bfloat16
    with pytest.raises(ValueError, match="dtype='float32' needs a network that can be prepared, but small is already"):
        bfloat16.prepared(dtype="float32")


class Branching(nn.Module):
    """A network with data-dependent control flow, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images):
        x = self.norm(self.conv(images)).mean(dim=(2, 3))
        return -x if images.mean() > 0 else x


def test_networks_that_cannot_be_traced_are_not_folded():
    model = with_nontrivial_batch_norms(Branching()).eval()
    ready = prepare(model)
    for sign in (1, -1):
        images = torch.rand(2, 3, 8, 8) * sign
        assert largest_error(outputs(ready, images), outputs(model, images)) < 1e-5


def test_copy_is_in_evaluation_mode():
    model = with_nontrivial_batch_norms(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))).train()
    images = torch.rand(2, 3, 8, 8)
    ready = prepare(model)
    expected = outputs(copy.deepcopy(model).eval(), images)
    assert largest_error(outputs(ready, images), expected) < 1e-5
    assert model.training
    assert model[0].weight.requires_grad
    assert not any(parameter.requires_grad for parameter in ready.parameters())


@pytest.fixture
def small():
    return with_nontrivial_batch_norms(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    ).eval()


@pytest.fixture
def compiled(monkeypatch):
    """Replaces the compiler, and collects the batch sizes of compiled networks."""
    sizes = []

    def compile(model, **_options):
        def call(images):
            sizes.append(len(images))
            return model(images)

        return call

    monkeypatch.setattr(torch, "compile", compile)
    return sizes


def test_last_batch_is_padded_to_the_compiled_size(small, compiled):
    ready = prepare(small, compile=True)
    images = torch.rand(11, 3, 8, 8)
    expected = outputs(small, images)
    for batch, want in zip(images.split(4), expected.split(4), strict=True):
        assert largest_error(outputs(ready, batch), want) < 1e-5
    assert set(compiled) == {4}
    late = prepare(small, compile=True, batch_size=4)
    outputs(late, images[:3])  # a first batch that is smaller than batch_size
    outputs(late, images[:4])
    assert set(compiled) == {4}
    assert largest_error(outputs(ready, images), expected) < 1e-5  # a larger batch uses the network itself
    assert set(compiled) == {4}


@pytest.mark.parametrize(("num_images", "compiles"), [(None, False), (9_999, False), (10_000, True)])
def test_auto_compiles_for_many_images(small, compiled, num_images, compiles):
    ready = prepare(small, num_images=num_images)
    outputs(ready, torch.rand(2, 3, 8, 8))
    assert bool(compiled) == compiles


def test_auto_works_without_a_compiler(monkeypatch, small):
    def fail(*_arguments, **_options):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fail)
    images = torch.rand(2, 3, 8, 8)
    ready = prepare(small, num_images=10**6)
    assert largest_error(outputs(ready, images), outputs(small, images)) < 1e-5
    with pytest.raises(RuntimeError, match="no C\\+\\+ compiler"):
        outputs(prepare(small, compile=True), images)


@pytest.mark.slow  # the compiler takes half a minute
def test_real_compiler(small):
    images = torch.rand(3, 3, 8, 8)
    ready = prepare(small, compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler
        assert largest_error(outputs(ready, images), outputs(small, images)) < 1e-5
        assert largest_error(outputs(ready, images[:2]), outputs(small, images[:2])) < 1e-5


@pytest.mark.parametrize("form", [lambda x: (x,), lambda x: {"features": x}])
def test_containers_of_the_output_are_kept(form):
    class Formed(nn.Module):
        def forward(self, images):
            return form(images.mean(dim=(2, 3)))

    images = torch.rand(2, 3, 4, 4)
    got = outputs(prepare(Formed(), dtype="bfloat16"), images)
    inner = got["features"] if isinstance(got, dict) else got[0]
    assert inner.dtype == torch.float32
    assert inner.shape == (2, 3)


def test_invalid_options():
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'bfloat16', got 'float16'"):
        prepare(nn.Identity(), dtype="float16")
    with pytest.raises(ValueError, match="compile must be one of 'auto', True, False, got 'maybe'"):
        prepare(nn.Identity(), compile="maybe")
