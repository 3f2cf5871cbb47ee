"""Features do not depend on torch's settings in the caller's thread, and the settings are restored."""

import contextlib
import threading
import warnings

import numpy as np
import pytest
import torch
from losses import gradient_of
from pooled import Pooled

import fidfast.torch as ft
from fidfast.torch._extractors.arithmetic import full_float32

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import fidfast.torch.ignite
    import fidfast.torch.torchmetrics

BACKENDS = torch.backends
PRECISIONS = {
    "generic": BACKENDS,
    "cuda.matmul": BACKENDS.cuda.matmul,
    "cudnn": BACKENDS.cudnn,
    "cudnn.conv": BACKENDS.cudnn.conv,
    "cudnn.rnn": BACKENDS.cudnn.rnn,
    "mkldnn": BACKENDS.mkldnn,
    "mkldnn.matmul": BACKENDS.mkldnn.matmul,
    "mkldnn.conv": BACKENDS.mkldnn.conv,
}


def readable(get):
    """The value, or None if torch finds its old and new settings contradictory."""
    try:
        return get()
    except RuntimeError:
        return None


def settings():
    """All settings that may change the numbers of a network."""
    return {
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "matmul": readable(torch.get_float32_matmul_precision),
        "cuda.matmul.allow_tf32": readable(lambda: BACKENDS.cuda.matmul.allow_tf32),
        "cudnn.allow_tf32": readable(lambda: BACKENDS.cudnn.allow_tf32),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn.deterministic": BACKENDS.cudnn.deterministic,
        "cudnn.benchmark": BACKENDS.cudnn.benchmark,
        **{f"precision of {name}": part.fp32_precision for name, part in PRECISIONS.items()},
    }


def assert_default(inside):
    assert inside["autocast"] == [False, False]
    assert (inside["dtype"], inside["device"]) == (torch.float32, torch.device("cpu"))
    assert not inside["deterministic"]
    assert not inside["cudnn.deterministic"]
    for name in PRECISIONS:
        assert inside[f"precision of {name}"] in ("none", "ieee"), name


@contextlib.contextmanager
def changed(setter, value, default):
    setter(value)
    try:
        yield
    finally:
        setter(default)


def precision(name, value, default="none"):
    return lambda: changed(lambda new: setattr(PRECISIONS[name], "fp32_precision", new), value, default)


def deterministic(*, warn_only):
    return changed(lambda on: torch.use_deterministic_algorithms(on, warn_only=on and warn_only), True, False)


@contextlib.contextmanager
def matmul_precision(value):
    """`torch.set_float32_matmul_precision`, after which "none" is not restored by its default value."""
    with changed(torch.set_float32_matmul_precision, value, "highest"):
        yield
    for name in ("cuda.matmul", "mkldnn.matmul"):
        PRECISIONS[name].fp32_precision = "none"


SETTINGS = {
    "none": contextlib.nullcontext,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: changed(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "device context": lambda: torch.device("meta"),
    "default device": lambda: changed(torch.set_default_device, "meta", None),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic": lambda: deterministic(warn_only=False),
    "deterministic, warnings only": lambda: deterministic(warn_only=True),
    "medium": lambda: matmul_precision("medium"),
    "high": lambda: matmul_precision("high"),
    "TF32 everywhere": precision("generic", "tf32"),
    "oneDNN in bfloat16": precision("mkldnn", "bf16"),
    "products of oneDNN in bfloat16": precision("mkldnn.matmul", "bf16"),
    "products of CUDA in TF32": precision("cuda.matmul", "tf32"),
    "convolutions of cuDNN in float32": precision("cudnn.conv", "ieee", "tf32"),
}
in_all_settings = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)

SEEN = []


class Network(torch.nn.Module):
    """A network whose result depends on the default dtype and device and on autocast, and that notes the settings."""

    input_size = 6
    input_range = (-2.1, 2.6)
    name = "network"
    num_features = 3
    fails = False

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3)
        self.linear = torch.nn.Linear(4, 3)
        random = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=random)

    def forward(self, images):
        SEEN.append(settings())
        if self.fails:
            raise RuntimeError("the network fails")
        x = self.convolution(images).mean(dim=(2, 3)) + torch.tensor([0.1, 0.2, 0.3, 0.4])
        return self.linear(x) / torch.full((3,), 3.0).sqrt()


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (9, 3, 10, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def metric(images, network):
    made = ft.FrechetDistance(network, np.eye(3))
    made.update(images)
    return made.moments


def torchmetrics_moments(images, network):
    made = fidfast.torch.torchmetrics.FrechetInceptionDistance(network)
    made.update(images.float(), real=True)
    return made.real_moments


def ignite_distance(images, network):
    made = fidfast.torch.ignite.FID(num_features=3, feature_extractor=network)
    made.update((images.float(), images.flip(0).float() / 2))
    return made.compute()


#: Functions of the images and a network.
ENTRY_POINTS = {
    "extractor": lambda images, net: ft.as_extractor(net)(images).detach().numpy(),
    "prepared": lambda images, net: ft.as_extractor(net).prepared()(images).detach().numpy(),
    "prepare": lambda images, net: ft.prepare(net)(images.float()).detach().numpy(),
    "hooked": lambda images, net: ft.as_extractor(with_hook(net)).prepared()(images).detach().numpy(),
    "layer": lambda images, net: ft.as_extractor(ft.at_layer(net, "linear"))(images).detach().numpy(),
    "features_of_images": lambda images, net: ft.features_of_images(images.numpy(), net).features,
    "stats_of_images": lambda images, net: ft.stats_of_images(images.numpy(), net).mu,
    "features_of_samples": lambda images, net: ft.features_of_samples(lambda n: images[:n], 9, net),
    "FrechetDistance": lambda images, net: metric(images, net).stats().sigma,
    "torchmetrics": lambda images, net: torchmetrics_moments(images, net).stats().sigma,
    "ignite": ignite_distance,
}
in_all_entry_points = pytest.mark.parametrize("entry", ENTRY_POINTS.values(), ids=ENTRY_POINTS)


def with_hook(network):
    network.register_forward_hook(lambda *_call: None)
    return network


@in_all_entry_points
@in_all_settings
@pytest.mark.grid(keep=50)
def test_settings_change_no_bit_and_are_restored(entry, setting, images):
    network = Network()
    expected = entry(images, network)
    SEEN.clear()
    with setting():
        before = settings()
        got = entry(images, network)
        after = settings()
    assert after == before
    assert SEEN
    for inside in SEEN:
        assert_default(inside)
    np.testing.assert_array_equal(got, expected)


@in_all_entry_points
@pytest.mark.parametrize("setting", ["autocast", "float64", "default device", "deterministic, warnings only", "medium"])
@pytest.mark.grid(keep=12)
def test_settings_are_restored_after_an_error(entry, setting, images, monkeypatch):
    network = Network()
    monkeypatch.setattr(Network, "fails", True)
    with SETTINGS[setting]():
        before = settings()
        with pytest.raises(RuntimeError, match="the network fails"):
            entry(images, network)
        assert settings() == before


@pytest.mark.parametrize("setting", [SETTINGS[name] for name in ("float64", "default device", "inference mode")])
def test_named_extractors_are_loaded_in_any_settings(setting, images):
    with setting():
        extractor = ft.load_extractor("efficientnet-lite0")
    parameters = list(extractor.model.parameters())
    assert {(p.dtype, p.device.type, p.is_inference()) for p in parameters} == {(torch.float32, "cpu", False)}


def test_constants_that_are_first_used_in_float64(images):
    """A tensor that is cached for later calls has the same dtype for all of them."""
    extractor = ft.as_extractor(Network())
    with SETTINGS["float64"]():
        extractor(images)
    assert extractor(images).dtype == torch.float32


def test_networks_that_are_made_in_float64_or_half(images):
    expected = ft.as_extractor(Network())(images).double()
    with SETTINGS["float64"]():
        extractor = ft.as_extractor(Network())
    assert extractor(images).dtype == torch.float64
    extractor.model.load_state_dict(Network().state_dict())
    # Sums of some dozens of float32 numbers of order 1.
    torch.testing.assert_close(extractor(images), expected, rtol=1e-4, atol=1e-5)
    assert ft.as_extractor(with_hook(Pooled().bfloat16()))(images).dtype == torch.bfloat16


def test_extractors_prepared_in_inference_mode_have_gradients(images):
    with torch.inference_mode():
        extractor = ft.as_extractor(Network()).prepared()
    pixels = images.float().requires_grad_()
    extractor(pixels).sum().backward()
    assert pixels.grad.abs().sum() > 0


@in_all_settings
def test_loss_through_an_extractor(setting, rng):
    """Value and gradient are the same for the settings of the forward pass; the caller's gradients stay enabled."""
    reference = rng.standard_normal((20, 3))
    pixels = torch.rand(9, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255
    extractor = ft.as_extractor(Network())

    def value_and_gradient():
        with torch.inference_mode(False), torch.enable_grad():
            inputs = pixels.clone().requires_grad_()
            loss = ft.FrechetLoss(reference)(extractor(inputs))
        return loss, inputs

    expected, inputs = value_and_gradient()
    expected.backward()
    with setting():
        got, others = value_and_gradient()
    got.backward()
    assert got == expected
    torch.testing.assert_close(others.grad, inputs.grad, rtol=0, atol=0)


@pytest.mark.parametrize("setting", ["autocast", "float64", "deterministic"])
def test_loss_alone(setting, rng):
    rows = rng.standard_normal((9, 7))
    expected = gradient_of(ft.FrechetLoss(rows[::-1] ** 3), rows)
    with SETTINGS[setting]():
        got = gradient_of(ft.FrechetLoss(rows[::-1] ** 3), rows)
    np.testing.assert_array_equal(got, expected)


def test_several_threads_restore_the_settings_once():
    """The first thread saves what torch keeps for the process, and the last one restores it, in any order."""
    started, finish = threading.Barrier(3), threading.Event()

    def hold():
        with full_float32():
            started.wait()
            finish.wait()

    with SETTINGS["float64"](), SETTINGS["medium"]():
        before = settings()
        threads = [threading.Thread(target=hold) for _ in range(2)]
        for thread in threads:
            thread.start()
        with full_float32():
            started.wait()
            assert_default(settings())
        assert_default(settings())  # the threads still need them
        finish.set()
        for thread in threads:
            thread.join()
        assert settings() == before


def test_default_device_of_a_network_is_that_of_its_images():
    with torch.device("meta"), full_float32(), full_float32(device=torch.device("meta")):
        assert torch.empty(1).device.type == "meta"
    with full_float32(device=torch.device("meta")):  # the caller has none
        assert torch.empty(1).device.type == "cpu"


def test_metric_is_on_the_device_of_its_network():
    assert ft.FrechetDistance(Pooled(), np.eye(5))._device_marker.device.type == "cpu"
    with torch.device("meta"):
        assert ft.FrechetDistance("efficientnet-lite0", np.eye(1280))._device_marker.device.type == "cpu"
