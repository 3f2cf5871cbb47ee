"""Every kind of network can be used, and receives the input that it expects."""

import sys
import types
import urllib.error
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision
from onnx import TensorProto, helper

import fidfast.torch as ft
from fidfast.torch._extractors.extractor import features_of
from fidfast.torch._extractors.inception import WEIGHTS_SHA256, WEIGHTS_URL

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import pytorch_fid.inception
    import torch_fidelity.feature_extractor_inceptionv3
    import torchmetrics.image.fid


@pytest.fixture
def images(rng):
    """(2, 3, 40, 50) uint8."""
    return torch.from_numpy(rng.integers(0, 256, (2, 3, 40, 50), dtype=np.uint8))


def features(extractor, images):
    with torch.inference_mode():
        return extractor(images)


class Pooled(torch.nn.Module):
    """The mean of each channel."""

    def forward(self, images):
        return images.float().mean(dim=(2, 3))


# The protocol -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x,
        lambda x: x[:, :, None, None],
        lambda x: [x],
        lambda x: (x,),
        lambda x: {"features": x},
        lambda x: [{"pool": x[:, :, None, None]}],
        lambda x: x.numpy(),
    ],
)
def test_forms_of_output(form):
    rows = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(features_of(ft.Extractor(form, "x"), form(rows)), rows)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ([torch.zeros(2, 3)] * 2, "must return one .* got 2 outputs"),
        ({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}, "got 2 outputs: .* an Extractor with output='a' or 'b'"),
        (None, "got NoneType"),
        (torch.zeros(2, 3, 7, 7), r"got shape \(2, 3, 7, 7\)"),
        (torch.zeros(2), r"got shape \(2,\)"),
    ],
)
def test_invalid_output(output, message):
    with pytest.raises((TypeError, ValueError), match=message):
        features_of(ft.Extractor(len, "x"), output)


@pytest.mark.parametrize("bounds", [None, (0, 1), (-1, 1), (-2.5, 4.0), (0, 255)])
def test_input_range(images, bounds):
    network = Pooled()
    if bounds is not None:
        network.input_range = bounds
    low, high = bounds or (0, 1)
    expected = low + images.double().mean(dim=(2, 3)) / 255 * (high - low)
    # A mean of 2,000 float32 numbers.
    torch.testing.assert_close(features(ft.as_extractor(network), images).double(), expected, rtol=1e-5, atol=1e-5)


def test_input_range_of_255_means_uint8(images):
    batches = []

    def network(batch):
        batches.append(batch)
        return batch.float().mean(dim=(2, 3))

    network.input_range = (0, 255)
    extractor = ft.as_extractor(network)
    features(extractor, images)
    assert batches[0] is images
    assert extractor.full_name == "network"


def test_names_and_sizes():
    network = Pooled()
    assert ft.as_extractor(network).full_name == "Pooled"
    network.name = "mine"
    assert ft.as_extractor(network).full_name == "mine"
    network.input_size = 32
    assert ft.as_extractor(network).full_name == "mine/pil-bicubic-32"
    network.input_size = (32, 48)
    assert ft.as_extractor(network, resize="torch-bilinear").full_name == "mine/torch-bilinear-32x48"
    assert ft.as_extractor(network, name="other").prepared(dtype="bfloat16").full_name.endswith("-32x48/bfloat16")
    again = ft.as_extractor(ft.as_extractor(network), resize="tf1-bilinear")
    assert again.full_name == "mine/tf1-bilinear-32x48"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"input_range": (1, 0)}, r"input_range must be \(low, high\) with low < high, .*, got \(1, 0\)"),
        ({"input_size": "big"}, "input_size must be an int, .*, got 'big'"),
        ({"input_size": 0}, "got 0"),
    ],
)
def test_invalid_attributes(attributes, message):
    network = Pooled()
    for name, value in attributes.items():
        setattr(network, name, value)
    with pytest.raises(ValueError, match=message):
        ft.as_extractor(network)


def test_resized_pixels_are_rounded_for_uint8_networks(images):
    network = Pooled()
    network.input_range = (0, 255)
    extractor = ft.as_extractor(network)
    torch.testing.assert_close(features(extractor, images + 0.3), features(extractor, images))


def test_name_inception_is_reserved():
    network = Pooled()
    network.name = "inception"
    with pytest.raises(
        ValueError, match="the name 'inception' is reserved for the 2015 Inception network; pass another"
    ):
        ft.as_extractor(network)


def test_number_of_features_is_checked(images):
    network = Pooled()
    network.num_features = 3
    assert features(ft.as_extractor(network), images).shape == (2, 3)
    network.num_features = 2048
    with pytest.raises(ValueError, match="Pooled has num_features=2048, but returned 3 columns"):
        features(ft.as_extractor(network), images)


def test_invalid_extractors():
    with pytest.raises(TypeError, match="an extractor must be callable, got int"):
        ft.as_extractor(3)
    with pytest.raises(ValueError, match="unknown resize 'nearest'; choose one of tf1-bilinear, "):
        ft.as_extractor(Pooled(), resize="nearest")


# Networks of other packages -----------------------------------------------------------------------------------------


def test_pytorch_fid(monkeypatch, weights, images):
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    network = pytorch_fid.inception.InceptionV3([3]).eval()
    expected = network(images / 255)[0][:, :, 0, 0]
    torch.testing.assert_close(features(ft.as_extractor(network), images), expected)


def test_torch_fidelity(weights, images):
    network = torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3("net", ["2048"], str(weights))
    extractor = ft.as_extractor(network)
    torch.testing.assert_close(features(extractor, images), network(images)[0])
    assert extractor.full_name == "net"


def test_torchmetrics(weights, images):
    network = torchmetrics.image.fid.NoTrainInceptionV3("net", ["2048"], str(weights))
    torch.testing.assert_close(features(ft.as_extractor(network), images), network(images))


class WithHook(torch.nn.Module):
    """torchvision's network with a hook of the user."""

    def __init__(self):
        super().__init__()
        self.network = torchvision.models.resnet18(weights=None)
        self.network.avgpool.register_forward_hook(lambda _module, _inputs, output: setattr(self, "pooled", output))

    def forward(self, images):
        self.network(images)
        return self.pooled


def test_torchvision_with_a_hook(rng):
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    network = WithHook().eval()
    extractor = ft.as_extractor(network)
    got = features(extractor, images)
    with torch.inference_mode():
        expected = network(images / 255)[:, :, 0, 0]
        assert got.shape == (2, 512)
        torch.testing.assert_close(got, expected)
        # The hook of a copy would still write to the original, so the network is not copied.
        torch.testing.assert_close(features(extractor.prepared(), images.flip(0)), expected.flip(0))
        at_layer = ft.as_extractor(ft.at_layer(network.network, "avgpool"))
        torch.testing.assert_close(features(at_layer, images), expected)
        torch.testing.assert_close(features(at_layer.prepared(), images), expected, rtol=1e-4, atol=1e-5)
    assert at_layer.name == "ResNet.avgpool"
    with pytest.raises(ValueError, match="dtype='bfloat16' needs a network that can be prepared, but WithHook has"):
        extractor.prepared(dtype="bfloat16")
    with pytest.raises(AttributeError, match="no attribute"):
        ft.at_layer(network.network, "pool5")


class Scripted(torch.nn.Module):
    """Like the TorchScript file of the StyleGAN repositories: it resizes, and returns features on request."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = torch.nn.functional.interpolate(img.float(), [30, 30], mode="bilinear")
        features = self.layers((x - 128) / 128)
        return features if return_features else features.softmax(1)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(tmp_path, images):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Scripted()).save(tmp_path / "network.pt")
        network = torch.jit.load(tmp_path / "network.pt").eval()
    expected = network(images, return_features=True)
    torch.testing.assert_close(features(ft.as_extractor(network), images), expected)


def test_timm(images):
    network = timm.create_model("resnet18", pretrained=False)
    extractor = ft.as_extractor(network)
    mean, deviation = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = network.eval().forward_head(network.forward_features((images / 255 - mean) / deviation), pre_logits=True)
    torch.testing.assert_close(features(extractor, images), expected, rtol=1e-4, atol=1e-5)
    assert extractor.name == "resnet18.a1_in1k"
    assert extractor.full_name == f"resnet18.a1_in1k-weights-{extractor.weights}/pil-bicubic-224"


def test_network_like_those_of_timm(images):
    class Like(torch.nn.Module):
        def forward_features(self, images):
            return images * 2

    torch.testing.assert_close(features(ft.as_extractor(Like()), images), 2 * (images / 255).mean(dim=(2, 3)))
    network = Like()
    network.input_range = (-1, 1)
    expected = 2 * (images / 127.5 - 1).mean(dim=(2, 3))
    torch.testing.assert_close(features(ft.as_extractor(network), images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("uint8", [False, True])
def test_onnx(images, uint8):
    kind = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["features"]),
    ]
    sizes = ["n", 3, "h", "w"] if uint8 else ["n", 3, 40, 50]
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("images", kind, sizes)],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3, 1, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    extractor = ft.as_extractor(session, name="pool")
    assert extractor.full_name == ("pool" if uint8 else "pool/pil-bicubic-40x50")
    expected = images.float().mean(dim=(2, 3)) / (1 if uint8 else 255)
    torch.testing.assert_close(features(extractor, images), expected)


# By name ------------------------------------------------------------------------------------------------------------


def test_efficientnet_recognises_a_flower():
    """The features are the input of the classifier, and the weights are the trained ones."""
    from sklearn.datasets import load_sample_images

    extractor = ft.load_extractor("efficientnet-lite0")
    flower = torch.from_numpy(load_sample_images().images[1].copy()).permute(2, 0, 1)
    flower = ft.resize(flower, extractor.resize, (224, 224))
    got = features(extractor, flower[None])
    assert got.shape == (1, 1280)
    classes = extractor.model.network._fc(got.clone()).squeeze().topk(3).indices
    assert 985 in classes  # daisy
    assert extractor.full_name == "efficientnet-lite0/pil-bicubic-224"


@pytest.mark.parametrize("like", ft.LIKE)
def test_inception_with_the_conventions_of_each_tool(weights, like):
    with pytest.warns(UserWarning, match="are not those of 2015-12-05 .* the distance is not an FID") as warned:
        extractor = ft.load_extractor("inception", weights=weights, like=like)
    assert warned[0].filename == __file__
    assert extractor.name.startswith("inception-weights-")
    assert ft.LIKE[like].resize in extractor.full_name
    assert extractor.full_name.endswith("/divisor-127.5") == (like == "pytorch-fid")


def test_factory_in_a_module(monkeypatch):
    module = types.ModuleType("my_networks")
    module.make = Pooled
    module.nothing = lambda: None
    monkeypatch.setitem(sys.modules, "my_networks", module)
    extractor = ft.load_extractor("my_networks:make", resize="torch-bilinear")
    assert extractor.full_name == "my_networks:make"
    assert not extractor.reproducible
    for name, message in {
        "my_networks:gone": "module 'my_networks' has no attribute 'gone'",
        "my_networks:nothing": "an extractor must be callable, got NoneType",
        "resnet": "unknown extractor 'resnet'; choose one of inception, .*, package.module:factory",
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            ft.load_extractor(name)
    with pytest.raises(ImportError, match="no_such_module"):
        ft.load_extractor("no_such_module:make")


def test_options_of_inception(tmp_path):
    with pytest.raises(
        ValueError, match="weights is an option of the extractor inception and of pretrained networks, not of eff"
    ):
        ft.load_extractor("efficientnet-lite0", weights="file")
    with pytest.raises(ValueError, match="like is an option of the extractor inception"):
        ft.load_extractor("efficientnet-lite0", like="clean-fid")
    with pytest.raises(ValueError, match=r"like must be one of 'torch-fidelity', 'pytorch-fid', .*, got 'fid'"):
        ft.load_extractor("inception", like="fid")
    with pytest.raises(FileNotFoundError, match="no such weights file: "):
        ft.load_extractor("inception", weights=tmp_path / "gone.pth")


def test_failed_download_says_what_to_download(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_arguments, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(FileNotFoundError) as caught:
        ft.load_extractor("inception")
    for part in (
        WEIGHTS_URL,
        WEIGHTS_SHA256,
        "--weights inception=FILE",
        str(tmp_path / "hub" / "checkpoints"),
        "no route",
    ):
        assert part in str(caught.value)


def test_inception_refuses_weights_of_another_network(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"cls_token": torch.zeros(1, 1, 4)}, path)
    with (
        pytest.warns(UserWarning, match="are not those of 2015-12-05"),
        pytest.raises(
            ValueError,
            match=r"^weights: .*other\.pth does not hold the weights of inception: pass the file weights-inc",
        ),
    ):
        ft.load_extractor("inception", weights=path)


def test_weights_are_not_executed(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
    with (
        pytest.warns(UserWarning, match="not those of 2015"),
        pytest.raises(ValueError, match="objects other than weights"),
    ):
        ft.load_extractor("inception", weights=tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.warns(UserWarning, match="not those of 2015"), pytest.raises(ValueError, match=r"empty.pth is damaged"):
        ft.load_extractor("inception", weights=tmp_path / "empty.pth")
