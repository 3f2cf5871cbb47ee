"""The pretrained networks by name: each against its library's own network, with seeded weights."""

import math
import pickle
import sys
import urllib.error
import urllib.request
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image

import fidfast
import fidfast.torch as ft
from fidfast.torch._extractors.pretrained import PretrainedFeatures
from fidfast.torch._extractors.stored import extractor_of_statistics

with warnings.catch_warnings():  # of their imports
    warnings.simplefilter("ignore")
    import open_clip
    import timm
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

#: Features of float32 networks, whose roundings differ in order: as in `prepare`.
ROUNDING = {"rtol": 1e-5, "atol": 1e-5}

_VIT = {"depth": 2, "embed_dim": 64, "num_heads": 2}
_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
TIMM = [name for name, entry in ft.NETWORKS.items() if entry.package == "timm"]


@pytest.fixture
def images(rng):
    """Smooth colours and noise, larger than any input."""
    ramp = np.linspace(0, 200, 340)[:, None, None] * rng.random((2, 1, 1, 3))
    return (ramp + rng.random((2, 340, 340, 3)) * 50).astype(np.uint8)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A function that makes a network of `NETWORKS` narrow, and returns its options and an empty torch cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)

    def shrink(name):
        entry = ft.NETWORKS[name]
        options = {**entry.options, **(_CONVNEXT if "convnext" in name else _VIT)}
        num_features = 32 if "convnext" in name else 64
        if options.get("num_classes"):
            options["num_classes"] = num_features = 48
        monkeypatch.setitem(ft.NETWORKS, name, entry._replace(options=options, num_features=num_features))
        return options, tmp_path / "torch" / "hub" / "checkpoints"

    return shrink


def seeded(network, seed=0):
    """Random weights; scales and variances are about 1, so that every layer matters."""
    generator = torch.Generator().manual_seed(seed)
    for key, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            scale = tensor.ndim == 1 and key.endswith(("weight", "gamma", "var"))
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1 + scale)
    return network.eval()


def features(images, extractor):
    return torch.from_numpy(ft.features_of_images(images, extractor, num_workers=0).features)


def transformed(images, transform):
    return torch.stack([transform(Image.fromarray(image)) for image in images])


def bicubic(old, new):
    """(new, old) weights of a cubic convolution (a = -0.75) that scales by (new + 0.1) / old, borders repeated."""
    matrix = np.zeros((new, old))
    for row in range(new):
        x = (row + 0.5) * old / (new + 0.1) - 0.5
        for column in range(math.floor(x) - 1, math.floor(x) + 3):
            t = abs(x - column)
            weight = 1.25 * t**3 - 2.25 * t**2 + 1 if t <= 1 else -0.75 * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[row, min(max(column, 0), old - 1)] += weight
    return matrix


# The table ----------------------------------------------------------------------------------------------------------


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("name", TIMM)
def test_the_table_agrees_with_timm(name):
    entry = ft.NETWORKS[name]
    tag = entry.repository.rpartition(".")[2]
    config = timm.models.get_pretrained_cfg(f"{entry.architecture}.{tag}")
    assert (config.hf_hub_id, config.mean, config.std) == (entry.repository, entry.mean, entry.std)
    side = 518 if name == "dinov2-vitl14" else entry.input_size  # until the weights are loaded
    with torch.device("meta"):  # computes shapes only
        network = PretrainedFeatures(timm.create_model(entry.architecture, **entry.options), entry.output)
        assert network(torch.zeros(2, 3, side, side)).shape == (2, entry.num_features)


def test_the_table_agrees_with_torchvision():
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
    preprocessing = weights.transforms()
    for entry in (ft.NETWORKS["vgg16"], ft.NETWORKS["swav-resnet50"]):
        assert (entry.mean, entry.std) == (tuple(preprocessing.mean), tuple(preprocessing.std))
    assert ft.NETWORKS["vgg16"].url == weights.url
    assert ft.NETWORKS["vgg16"].sha256 in weights.url


def test_every_network_of_the_fdr_has_a_distance():
    assert set(ft.FDR_DISTANCES) <= set(ft.extractor_names())
    assert len(ft.FDR_DISTANCES) == 6
    assert all(distance > 0 for distance in ft.FDR_DISTANCES.values())


# The features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "side"), [("clip-vit-l14", 224), ("clip-vit-l14-336", 336)])
def test_clip_is_the_network_of_open_clip(images, small, tmp_path, name, side):
    small(name)
    vision = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=14, image_size=side)
    text = CLIPTextCfg(context_length=8, vocab_size=16, width=16, heads=2, layers=1)
    clip = seeded(CLIP(48, vision, text, quick_gelu=True))
    torch.save(clip.state_dict(), tmp_path / "clip.pt")
    safetensors.torch.save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    transform = open_clip.image_transform(side, is_train=False)
    with torch.inference_mode():
        expected = clip.encode_image(transformed(images, transform), normalize=True)
    extractors = [ft.load_extractor(name, weights=tmp_path / file) for file in ("clip.pt", "clip.safetensors")]
    torch.testing.assert_close(features(images, extractors[0]), expected, **ROUNDING)
    assert extractors[0].full_name == extractors[1].full_name
    assert extractors[0].full_name.endswith(f"/pil-bicubic-uint8-{side}")


def test_dinov2_interpolates_positions_as_its_own_code(images, small):
    options, cache = small("dinov2-vitl14")
    network = seeded(timm.create_model("vit_large_patch14_dinov2", **options))
    torch.save({**network.state_dict(), "mask_token": torch.zeros(1, 64)}, cache / "dinov2_vitl14_pretrain.pth")
    extractor = ft.load_extractor("dinov2-vitl14")
    x = torch.from_numpy(images).movedim(3, 1).float()
    x = torch.nn.functional.interpolate(x, (224, 224), mode="bicubic", antialias=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    positions, matrix = network.pos_embed.detach().clone(), bicubic(37, 16)
    grid = np.einsum("ai,bj,ijc->abc", matrix, matrix, positions[0, 1:].double().numpy().reshape(37, 37, 64))
    network.set_input_size(224)
    with torch.inference_mode():
        of_timm = network(x)
        network.pos_embed[:, 0], network.pos_embed[:, 1:] = positions[:, 0], torch.from_numpy(grid).flatten(0, 1)
        expected = network(x)
    torch.testing.assert_close(features(images, extractor), expected, **ROUNDING)
    assert (of_timm - expected).abs().max() > 100 * ROUNDING["atol"] * expected.abs().max()
    assert extractor.full_name == f"dinov2-vitl14-weights-{extractor.weights}/torch-bicubic-antialias-224"


@pytest.mark.parametrize("name", [name for name in ft.FDR_DISTANCES if name != "inception"])
def test_networks_of_the_fdr(images, small, name):
    """FD-Loss's rule: bicubic with antialiasing, timm's mean and deviation; CLS, attention pooling or mean."""
    options, cache = small(name)
    entry = ft.NETWORKS[name]
    tag = entry.repository.rpartition(".")[2]
    sizes = {"dynamic_img_size": True, "dynamic_img_pad": True} if "convnext" not in name else {}
    network = seeded(timm.create_model(f"{entry.architecture}.{tag}", **{**options, **sizes}))
    safetensors.torch.save_file(network.state_dict(), cache / entry.file_name)
    config = timm.data.resolve_data_config(network.pretrained_cfg)
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    x = torch.from_numpy(images).movedim(3, 1).float() / 255
    x = torch.nn.functional.interpolate(x, (entry.input_size,) * 2, mode="bicubic", antialias=True)
    with torch.inference_mode():
        found = network.forward_features((x - mean) / std)
        expected = found.mean((2, 3)) if found.ndim == 4 else network.pool(found) if network.attn_pool else found[:, 0]
    extractor = ft.load_extractor(name)
    torch.testing.assert_close(features(images, extractor), expected, **ROUNDING)
    assert extractor.reproducible
    assert extractor.full_name.startswith(f"{name}-weights-")


def test_swav_is_the_network_of_torchvision(monkeypatch, images, tmp_path):
    entry = ft.NETWORKS["swav-resnet50"]._replace(options={"width_per_group": 4})
    monkeypatch.setitem(ft.NETWORKS, "swav-resnet50", entry)
    network = seeded(torchvision.models.resnet50(**entry.options))
    state = {f"module.{key}": value for key, value in network.state_dict().items() if not key.startswith("fc.")}
    torch.save({**state, "module.prototypes.weight": torch.zeros(3, 128)}, tmp_path / "swav.pth.tar")
    network.fc = torch.nn.Identity()
    transforms = [torchvision.transforms.Resize(224), torchvision.transforms.ToTensor()]
    transforms.append(torchvision.transforms.Normalize(entry.mean, entry.std))
    with torch.inference_mode():
        expected = network(transformed(images, torchvision.transforms.Compose(transforms)))
    extractor = ft.load_extractor("swav-resnet50", weights=tmp_path / "swav.pth.tar")
    torch.testing.assert_close(
        features(images, extractor), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item()
    )


@pytest.mark.slow
def test_vgg16_is_the_network_of_torch_fidelity(images, tmp_path):
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    torch.manual_seed(0)
    torch.save(torchvision.models.vgg16().state_dict(), tmp_path / "vgg16.pth")
    theirs = FeatureExtractorVGG16("vgg16", ["fc2_relu"], feature_extractor_weights_path=tmp_path / "vgg16.pth")
    with torch.inference_mode():
        (expected,) = theirs(torch.from_numpy(images).movedim(3, 1))
    extractor = ft.load_extractor("vgg16", weights=tmp_path / "vgg16.pth")
    torch.testing.assert_close(
        features(images, extractor), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
    )


@pytest.mark.slow
def test_full_size(tmp_path):
    name = "dinov2-vitl14"
    entry = ft.NETWORKS[name]
    torch.manual_seed(0)
    network = timm.create_model(entry.architecture, **entry.options)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "weights.safetensors")
    del network
    extractor = ft.load_extractor(name, weights=tmp_path / "weights.safetensors")
    (tmp_path / "weights.safetensors").unlink()
    rows = extractor(torch.randint(0, 256, (2, 3, entry.input_size, entry.input_size)))
    assert rows.shape == (2, entry.num_features)
    assert rows.isfinite().all()
    assert (rows[0] != rows[1]).any()


@pytest.mark.parametrize(("method", "mode"), [("pil-bicubic-uint8", "BICUBIC"), ("pil-bilinear-uint8", "BILINEAR")])
def test_resizes_of_8_bit_images_are_those_of_pil(images, method, mode):
    expected = np.asarray(Image.fromarray(images[0]).resize((70, 50), Image.Resampling[mode]))
    pixels = torch.from_numpy(images[0]).movedim(2, 0)
    assert torch.equal(ft.resize(pixels, method, (50, 70)), torch.from_numpy(expected.copy()).movedim(2, 0).float())


# Names and weights --------------------------------------------------------------------------------------------------


@pytest.fixture
def mae(small):
    """A narrow MAE network in torch's cache."""
    options, cache = small("mae-vitl16")
    network = seeded(timm.create_model("vit_large_patch16_224", **options))
    safetensors.torch.save_file(network.state_dict(), cache / ft.NETWORKS["mae-vitl16"].file_name)
    return network


def test_statistics_find_their_network_again(images, mae, tmp_path):
    extractor = ft.load_extractor("mae-vitl16")
    stats = ft.stats_of_images(images, extractor, num_workers=0)
    assert ft.fid_of_images(images, stats, num_workers=0) == pytest.approx(0, abs=1e-6)
    found, dtype = extractor_of_statistics(f"{extractor.full_name}/bfloat16", "reference")
    assert (found.full_name, dtype) == (extractor.full_name, "bfloat16")
    for name in (extractor.full_name.split("/")[0], "mae-vitl16"):
        assert extractor_of_statistics(name, "reference")[0].full_name == extractor.full_name
    with pytest.raises(ValueError, match=r"but the one that is loaded by name is 'mae-vitl16-weights-"):
        extractor_of_statistics("mae-vitl16-weights-12345678/torch-bicubic-antialias-224", "reference")
    other = {"model": seeded(mae, seed=1).state_dict()}  # as the authors' file
    torch.save(other, tmp_path / "other.pth")
    assert ft.load_extractor("mae-vitl16", weights=tmp_path / "other.pth").full_name != extractor.full_name


def test_extractors_are_pickled_and_prepared(mae):
    extractor = ft.load_extractor("mae-vitl16", resize="pil-bicubic-uint8")
    assert extractor.full_name.endswith("/pil-bicubic-uint8-224")
    x = torch.randint(0, 256, (2, 3, 224, 224))
    assert torch.equal(pickle.loads(pickle.dumps(extractor))(x), extractor(x))
    assert extractor.prepared(dtype="bfloat16", device="cpu").full_name == f"{extractor.full_name}/bfloat16"


def test_files_that_are_not_the_weights(mae, tmp_path):
    bad = {
        "other.pth": ({"a": torch.zeros(2)}, "does not hold the weights of mae-vitl16: cls_token is missing"),
        "wide.pth": ({**mae.state_dict(), "cls_token": torch.zeros(1, 1, 7)}, r"cls_token has shape \(1, 1, 7\)"),
        "large.pth": ({**mae.state_dict(), "pos_embed": torch.zeros(1, 577, 64)}, "577 positions, expected 197"),
        "list.pth": ([1, 2], "must hold a dictionary of tensors, got list"),
        "code.pth": (print, "is damaged or holds objects other than weights"),
    }
    for file, (content, message) in bad.items():
        torch.save(content, tmp_path / file)
        with pytest.raises(ValueError, match=message):
            ft.load_extractor("mae-vitl16", weights=tmp_path / file)
    for file in ("short.safetensors", "short.pth"):
        (tmp_path / file).write_bytes(b"short")
        with pytest.raises(ValueError, match=f"{file} is damaged"):
            ft.load_extractor("mae-vitl16", weights=tmp_path / file)
    with pytest.raises(ValueError, match="is not a regular file"):
        ft.load_extractor("mae-vitl16", weights=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no such weights file: .*gone\.pth"):
        ft.load_extractor("mae-vitl16", weights=tmp_path / "gone.pth")
    with pytest.raises(ValueError, match="like is an option of the extractor inception, not of mae-vitl16"):
        ft.load_extractor("mae-vitl16", like="clean-fid")


@pytest.mark.parametrize("name", ["dinov2-vitl14", "vgg16"])
def test_offline_the_message_says_what_to_download(monkeypatch, small, name):
    def fail(*_args, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("HF_HUB_CACHE", "gone")
    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(torch.hub, "urlopen", fail)
    _, cache = small(name)
    with pytest.raises(FileNotFoundError) as error:
        ft.load_extractor(name)
    entry, message = ft.NETWORKS[name], str(error.value)
    assert message.startswith(f"the weights of {name} could not be downloaded (<urlopen error no network>); download ")
    assert all(part in message for part in (entry.file_url, str(cache / entry.file_name), f"--weights {name}=FILE"))
    assert "\n" not in message


def test_offline_one_message_names_all_that_is_missing(monkeypatch, small, tmp_path, recwarn):
    """Before the other weights of the Inception network are warned of."""

    def fail(*_args, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("HF_HUB_CACHE", "gone")
    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.setattr(torch.hub, "urlopen", fail)
    small("vgg16")
    (tmp_path / "inception.pth").write_bytes(b"other weights")
    images = np.zeros((12, 8, 8, 3), np.uint8)
    with pytest.raises(FileNotFoundError) as error:
        ft.evaluate(images, images, metrics="fid,fd-dinov2,fd-vgg", weights={"inception": tmp_path / "inception.pth"})
    message = str(error.value)
    assert message.startswith("the weights of 2 networks are missing: (1) the weights of dinov2-vitl14 could not be ")
    assert "; (2) the weights of vgg16 could not be downloaded" in message
    assert all(f"--weights {name}=FILE" in message for name in ("dinov2-vitl14", "vgg16"))
    assert not recwarn.list


def test_weights_by_the_short_name_of_a_network():
    with pytest.raises(FileNotFoundError, match=r"no such weights file: gone\.pth"):
        ft.load_extractors(["dinov2-vitl14"], weights={"dinov2": "gone.pth"})
    with pytest.raises(ValueError, match=r"weights has two files of vgg16: a\.pth and b\.pth; pass one"):
        ft.load_extractors(["vgg16"], weights={"vgg16": "a.pth", "vgg": "b.pth"})


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"extractor siglip2-so400m needs timm: pip install 'fidfast\[networks\]'"):
        ft.load_extractor("siglip2-so400m")


def test_a_file_for_each_of_several_networks(mae, tmp_path):
    from fidfast.torch._extractors.named import load_extractors

    torch.save(mae.state_dict(), tmp_path / "mae.pth")
    names = ["mae-vitl16", "efficientnet-lite0"]
    expected = ft.load_extractor("mae-vitl16").full_name
    for weights in (tmp_path / "mae.pth", {"mae-vitl16": tmp_path / "mae.pth"}):
        assert load_extractors(names, weights=weights)[0].full_name == expected
    with pytest.raises(ValueError, match=r"weights must be a file for each of mae-vitl16, vgg16: \{name"):
        load_extractors(["mae-vitl16", "vgg16"], weights=tmp_path / "mae.pth")
    with pytest.raises(ValueError, match="weights has a file of 'vgg16'; the networks are mae-vitl16"):
        load_extractors(names, weights={"vgg16": tmp_path / "mae.pth"})
    with pytest.raises(TypeError, match=r"weights\['mae-vitl16'\] must be a path"):
        load_extractors(names, weights={"mae-vitl16": 3})


def test_different_networks_are_told_apart(images, mae):
    stats = ft.stats_of_images(images, ft.load_extractor("mae-vitl16"), num_workers=0)
    other = fidfast.GaussianStats(stats.mu, stats.sigma, extractor="dinov2-vitl14-weights-12345678")
    with pytest.warns(UserWarning, match="the two inputs have different extractors"):
        fidfast.fid(stats, other)
