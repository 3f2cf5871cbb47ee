"""`compute_fid` and `compute_kid` against clean-fid's own."""

import inspect
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tolerance import distance_error

import fidfast
from fidfast.compat import calculate_frechet_distance, compute_fid, compute_kid

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import cleanfid
    import cleanfid.fid

FAST = {"num_workers": 0, "batch_size": 4, "device": torch.device("cpu"), "verbose": False, "use_dataparallel": False}


def tiny(images):
    """Five features of images from 0 to 255 whose rounding is below that of a network."""
    means = images.float().mean(dim=(2, 3))
    return torch.cat([means, images[:, :2, ::3].float().std(dim=(2, 3))], dim=1)


def rows_of(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cleanfid.fid.get_folder_features(
            str(folder), tiny, num_workers=0, device=torch.device("cpu"), verbose=False, **options
        )


def statistics(rows):
    return rows.mean(0), np.cov(rows, rowvar=False)


def their_fid(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return cleanfid.fid.compute_fid(*map(str, arguments), **{**FAST, **options})


@pytest.mark.parametrize(("ours", "theirs"), [(compute_fid, "compute_fid"), (compute_kid, "compute_kid")])
def test_signature(ours, theirs):
    original = inspect.signature(getattr(cleanfid.fid, theirs)).parameters
    parameters = inspect.signature(ours).parameters
    assert list(parameters) == list(original)
    for name in parameters.keys() - {"device"}:
        assert parameters[name].default == original[name].default, name


MODES = ["clean", "legacy_tensorflow", "legacy_pytorch"]


@pytest.mark.parametrize(
    ("mode", "like"),
    [("clean", "clean-fid"), ("legacy_tensorflow", "torch-fidelity"), ("legacy_pytorch", "pytorch-fid")],
)
def test_conventions(monkeypatch, pairs, mode, like):
    """tests/torch/test_like.py compares them with the tools themselves."""

    def load(name, *, like):
        raise ValueError(f"{name} like {like}")

    monkeypatch.setattr("fidfast.torch.load_extractor", load)
    with pytest.raises(ValueError, match=f"inception like {like}"):
        compute_fid(*pairs, mode=mode, **FAST)


@pytest.mark.parametrize("mode", MODES)
def test_fid_of_two_folders(folders, mode):
    options = {"mode": mode, "custom_feat_extractor": tiny}
    expected = their_fid(*folders, **options)
    error = distance_error(expected, *(statistics(rows_of(folder, mode=mode)) for folder in folders))
    assert compute_fid(*folders, **FAST, **options) == pytest.approx(expected, rel=0, abs=error)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_fid_with_the_network(monkeypatch, pairs, weights, mode):
    """The mode chooses network, resize and range of the pixels.

    clean-fid's own network is a TorchScript file; torch-fidelity's has the same layers.
    """
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    with pytest.warns(UserWarning, match="is not an FID"):
        found = compute_fid(*pairs, mode=mode, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _network_of(mode, weights)
    stats = [
        statistics(
            cleanfid.fid.get_folder_features(
                str(folder), network, 0, device=torch.device("cpu"), mode=mode, verbose=False
            )
        )
        for folder in pairs
    ]
    # Not by their sqrtm, which takes minutes in 2,048 dims.
    expected = calculate_frechet_distance(*stats[0], *stats[1])
    assert found == pytest.approx(expected, rel=0, abs=distance_error(expected, *stats))


def _network_of(mode, weights):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    if mode == "legacy_pytorch":
        return cleanfid.features.feature_extractor("pytorch_inception", torch.device("cpu"), use_dataparallel=False)
    network = FeatureExtractorInceptionV3("net", ["2048"], str(weights))
    if mode == "legacy_tensorflow":
        return lambda batch: network(batch.to(torch.uint8))[0]
    layers = [layer for name, layer in network.named_children() if name != "fc"]
    trunk = torch.nn.Sequential(*layers, torch.nn.Flatten(1)).eval()
    return lambda batch: trunk((batch - 128) / 128)


def test_image_transform_and_resize(folders):
    def crop(image):
        return image[5:25, 5:35]

    def shrink(image):
        return np.asarray(Image.fromarray(image).resize((8, 6)))

    for functions in ({"custom_image_tranform": crop}, {"custom_image_tranform": crop, "custom_fn_resize": shrink}):
        expected = their_fid(*folders, custom_feat_extractor=tiny, **functions)
        error = distance_error(expected, *(statistics(rows_of(folder, **functions)) for folder in folders))
        found = compute_fid(*folders, **FAST, custom_feat_extractor=tiny, **functions)
        assert found == pytest.approx(expected, rel=0, abs=error)


def test_arrays_in_a_folder_and_archives(folders, tmp_path, rng):
    (tmp_path / "arrays").mkdir()
    for i in range(5):
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        np.save(tmp_path / "arrays" / f"{i}.npy", image if i % 2 else image.astype(np.float32))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for file in folders[1].iterdir():
            archive.write(file, file.name)
    sides = [tmp_path / "arrays", tmp_path / "b.zip"]
    expected = their_fid(*sides, custom_feat_extractor=tiny)
    error = distance_error(expected, *map(statistics, map(rows_of, sides)))
    assert compute_fid(*sides, **FAST, custom_feat_extractor=tiny) == pytest.approx(expected, rel=0, abs=error)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_fid_of_a_generator(folders, dtype):
    def generate(z):
        images = (z[:, :, None, None] * 40 + 128).clamp(0, 255).expand(-1, -1, 9, 8)
        return images.to(dtype)

    options = {"gen": generate, "fdir2": folders[1], "num_gen": 7, "z_dim": 3, "custom_feat_extractor": tiny}
    torch.manual_seed(5)
    found = compute_fid(**options, **FAST)
    torch.manual_seed(5)
    rows = cleanfid.fid.get_model_features(
        generate, tiny, z_dim=3, num_gen=7, batch_size=4, device=torch.device("cpu"), verbose=False
    )
    stats = [statistics(rows), statistics(rows_of(folders[1]))]
    # The random numbers are those of a generator alone: clean-fid's DataLoader of fdir2 draws one more before.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cleanfid.fid.frechet_distance(*stats[0], *stats[1])
    error = distance_error(expected, *stats)
    assert found == pytest.approx(expected, rel=0, abs=error)


def test_kid(monkeypatch, folders, rng, tmp_path):
    """Features as files, since clean-fid's function has no other network than Inception."""
    rows = [rng.normal(size=(n, 4)).astype(np.float32) for n in (30, 20)]
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, features in zip(paths, rows, strict=True):
        np.save(path, features)
    monkeypatch.setattr("fidfast.torch.load_extractor", lambda *_, **__: None)
    np.random.seed(3)  # noqa: NPY002
    found = compute_kid(*paths, **FAST)
    np.random.seed(3)  # noqa: NPY002
    # float32 products of clean-fid, of numbers below 10, over 100 subsets.
    assert found == pytest.approx(cleanfid.fid.kernel_distance(*rows), rel=0, abs=1e-5)


def test_statistics_of_a_data_set(monkeypatch, folders, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    stats = fidfast.GaussianStats(*statistics(rows_of(folders[1])))
    folder = tmp_path / "hub" / "clean-fid"
    folder.mkdir(parents=True)
    np.savez(folder / "mine_clean_custom_na.npz", mu=stats.mu, sigma=stats.sigma)
    options = {**FAST, "custom_feat_extractor": tiny}
    found = compute_fid(folders[0], dataset_name="Mine", dataset_split="custom", **options)
    # The file has the features of the folder in double the precision of the network's.
    assert found == pytest.approx(compute_fid(*folders, **options), rel=1e-6)

    def offline(url, *_, **__):
        raise OSError(f"no network: {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FileNotFoundError, match=r"no network: https://www.cs.cmu.edu/.*/ffhq_clean_train_1024.npz\)"):
        compute_fid(folders[0], **options)
    with pytest.raises(FileNotFoundError, match=r"ffhq_clean_trainval_1024_kid.npz could not be downloaded"):
        compute_kid(folders[0], dataset_split="trainval", **FAST)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass either fdir1 or gen, got neither"),
        ({"fdir1": "a", "gen": len}, "pass either fdir1 or gen, got both"),
        ({"fdir1": "a", "mode": "tf"}, "mode must be one of 'clean'"),
        ({"fdir1": "a", "model_name": "clip_vit_b_32"}, "model_name must be 'inception_v3'.*custom_feat_extractor"),
        ({"fdir1": "a", "dataset_name": "../x"}, "dataset_name must be the name of a data set"),
        ({"gen": len, "num_gen": 1}, "num_gen must be at least 2, got 1"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        compute_fid(**options)
