"""The caller's network stays as it is: mode, hooks, gradients, device, dtype and forward, also after an error."""

import warnings

import numpy as np
import pytest
import torch
from pooled import Pooled
from torch import nn

import fidfast.torch as ft
from fidfast.torch._extractors import prepare as preparation
from fidfast.torch._extractors.networks import evaluating

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import fidfast.torch.ignite
    import fidfast.torch.torchmetrics

MODES = []


class Network(nn.Module):
    """A network with a part that is always in evaluation mode, and that notes its modes."""

    num_features = 4
    fails = False

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.frozen = nn.BatchNorm2d(4).eval().requires_grad_(False)
        self.train()

    def train(self, mode=True):
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images):
        MODES.append([part.training for part in self.modules()])
        if self.fails:
            raise RuntimeError("the network fails")
        return self.frozen(self.layers(images.float())).mean(dim=(2, 3))


class Uint8(Network):
    """A network that cannot be prepared."""

    input_range = (0, 255)


def hooked():
    network = Network()
    network.layers[0].register_forward_hook(lambda *_call: None)
    return network


def with_function():
    """A network whose forward is replaced by a function, which a copy of it would share."""
    network = Network()
    forward = network.forward
    network.forward = lambda images: forward(images) * 2
    return network


NETWORKS = {"plain": Network, "uint8": Uint8, "hooked": hooked, "function": with_function}
networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def update(metric, images):
    metric.update(images)
    return metric.compute()


def torchmetrics_update(images, network):
    metric = fidfast.torch.torchmetrics.FrechetInceptionDistance(network)
    metric.update(images, real=True)


ENTRY_POINTS = {
    "as_extractor": lambda images, net: ft.as_extractor(net)(images),
    "method": lambda images, net: ft.as_extractor(net.__call__)(images),
    "at_layer": lambda images, net: ft.as_extractor(ft.at_layer(nn.Sequential(net, nn.Flatten()), "1"))(images),
    "prepared": lambda images, net: ft.as_extractor(net).prepared()(images),
    "moments_of_images": lambda images, net: ft.moments_of_images(images.numpy(), net),
    "moments_of_samples": lambda images, net: ft.moments_of_samples(lambda n: images[:n], 9, net),
    "FrechetDistance": lambda images, net: update(ft.FrechetDistance(net, np.eye(4)), images),
    "torchmetrics": torchmetrics_update,
    "ignite": lambda images, net: fidfast.torch.ignite.FID(4, net).update((images, images)),
}


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def state_of(network):
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        "modes": [part.training for part in network.modules()],
        "hooks": [(len(part._forward_hooks), len(part._forward_pre_hooks)) for part in network.modules()],
        "forward": vars(network).get("forward"),
        "tensors": {
            name: (id(value), value.requires_grad, value.dtype, value.device, value._version, value.is_inference())
            for name, value in tensors.items()
        },
        "gradients": [None if p.grad is None else p.grad.clone() for p in network.parameters()],
    }


@networks
@pytest.mark.parametrize("entry", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
@pytest.mark.parametrize("fails", [False, True])
def test_network_is_evaluated_and_stays_as_it_is(make, entry, fails, images):
    network = make()
    network.fails = fails
    before = state_of(network)
    MODES.clear()
    if fails:
        with pytest.raises(RuntimeError, match="the network fails"):
            entry(images, network)
    else:
        entry(images, network)
    assert state_of(network) == before
    assert MODES
    assert not any(any(modes) for modes in MODES)


@networks
def test_extraction_on_another_device_does_not_move_the_network(make, images):
    network = make()
    before = state_of(network)
    extractor = ft.as_extractor(network).prepared(device="meta")
    copied = make in (Network, Uint8)
    assert {p.device.type for p in extractor.model.parameters()} == {"meta" if copied else "cpu"}
    metric = ft.FrechetDistance(network, np.eye(4)).to("meta")
    assert {p.device.type for p in metric.extractor.model.parameters()} == {"meta" if copied else "cpu"}
    assert state_of(network) == before
    if not copied:  # it is called on its own device
        assert extractor(images).device.type == "cpu"


def test_scripted_networks_are_evaluated_and_keep_their_mode(images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.jit.script(nn.Sequential(nn.Dropout(0.5), nn.AvgPool2d(8))).train()
    expected = images.float().mean(dim=(2, 3)) / 255
    torch.testing.assert_close(ft.as_extractor(network)(images), expected)
    assert all(part.training for part in network.modules())


def test_prepared_network_is_evaluated_in_any_container(images):
    module = nn.ModuleList([ft.prepare(Network())]).train()
    MODES.clear()
    module[0](images.float())
    assert not any(any(modes) for modes in MODES)
    assert module[0].training


def test_forward_that_is_replaced_by_a_method_is_kept(images):
    """The tracer that finds batch norms to fold would use the forward of the class."""
    network = Network().eval()
    expected = -ft.as_extractor(network)(images)
    network.forward = type(network.forward)(lambda self, x: -Network.forward(self, x), network)
    torch.testing.assert_close(ft.as_extractor(network).prepared()(images), expected, rtol=1e-5, atol=1e-5)


def test_autocast_of_accelerate_is_restored():
    network = Network()
    network._original_forward, network.forward = network.forward, network.eval
    before = dict(vars(network))
    with pytest.raises(RuntimeError, match="inside"), evaluating(network):  # noqa: PT012
        assert network.forward == Network.forward.__get__(network)
        raise RuntimeError("inside")
    assert vars(network) == before


# bfloat16 on CPUs without it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capabilities", "supported"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
        ({"neon": True, "bf16": True}, True),
        ({}, True),  # unknown
    ],
)
def test_bfloat16_warns_on_cpus_that_emulate_it(monkeypatch, capabilities, supported, images):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ft.moments_of_images(images.numpy(), Pooled(), dtype="bfloat16")
        ft.prepare(Pooled())
    assert len(caught) == (0 if supported else 1)
    if not supported:
        assert "this CPU has no bfloat16 instructions" in str(caught[0].message)
        assert caught[0].filename == __file__


def test_bfloat16_does_not_warn_on_other_devices(monkeypatch):
    monkeypatch.setattr(preparation, "has_bfloat16", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ft.prepare(Pooled(), dtype="bfloat16", device="meta")
