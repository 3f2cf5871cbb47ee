"""The statistics of other tools, computed by their own code, for the same images and weights."""

import functools
import warnings

import numpy as np
import pytest
import torch
from photographs import assert_same, crops, planes, write
from PIL import Image

import fidfast.torch as ft
from fidfast.torch._extractors.inception import inception_network

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import cleanfid.fid
    import pytorch_fid.fid_score
    import pytorch_fid.inception
    import torch_fidelity.metric_fid
    import torch_fidelity.utils
    import torchmetrics.image.fid


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Images of one size, as the other tools require."""
    return write(tmp_path_factory.mktemp("photographs") / "crops", crops(2, [(77, 120)] * 4))


@pytest.fixture(scope="module")
def stats_like(photographs, weights):
    """Our statistics by tool, computed once."""

    @functools.cache
    def stats(tool):
        with pytest.warns(UserWarning, match="is not an FID"):
            extractor = ft.load_extractor("inception", weights=weights, like=tool)
        return ft.stats_of_images(photographs, extractor, ddof=ft.LIKE[tool].ddof, device="cpu")

    return stats


#: Relative error of features of a float32 network with folded batch norms, 1e-5, and of their products.
NETWORK_ERROR = 1e-4


def test_like_pytorch_fid(monkeypatch, photographs, weights, stats_like):
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    network = pytorch_fid.inception.InceptionV3([3])
    theirs = pytorch_fid.fid_score.compute_statistics_of_path(str(photographs), network, 4, 2048, "cpu", 0)
    assert_same(stats_like("pytorch-fid"), theirs, NETWORK_ERROR)


def test_like_torch_fidelity(photographs, weights, stats_like):
    options = {"input1": str(photographs), "cuda": False, "cache": False, "verbose": False, "batch_size": 4,
               "feature_extractor_weights_path": str(weights), "save_cpu_ram": True}  # fmt: skip
    network = torch_fidelity.utils.create_feature_extractor("inception-v3-compat", ["2048"], **options)
    theirs = torch_fidelity.metric_fid.fid_input_id_to_statistics(1, network, "2048", **options)
    ours = stats_like("torch-fidelity")
    assert_same(ours, (theirs["mu"], theirs["sigma"]), NETWORK_ERROR)


def test_like_clean_fid(photographs, weights, stats_like):
    network = inception_network(weights)
    rows = cleanfid.fid.get_folder_features(
        str(photographs),
        lambda batch: network((batch - 128) / 128)["pool"],
        num_workers=0,
        device=torch.device("cpu"),
        mode="clean",
        verbose=False,
        batch_size=4,
    )
    ours = stats_like("clean-fid")
    assert_same(ours, (rows.mean(0), np.cov(rows, rowvar=False)), NETWORK_ERROR)


def test_like_torchmetrics(photographs, weights, stats_like):
    metric = torchmetrics.image.fid.FrechetInceptionDistance(2048, feature_extractor_weights_path=str(weights))
    images = [planes(np.asarray(Image.open(path))) for path in sorted(photographs.iterdir())]
    metric.update(torch.stack(images), real=True)
    n = len(images)
    mu = metric.real_features_sum.numpy() / n
    sigma = (metric.real_features_cov_sum.numpy() - n * np.outer(mu, mu)) / (n - 1)
    assert_same(stats_like("torchmetrics"), (mu, sigma), NETWORK_ERROR)


def test_like_stylegan3(stats_like):
    """The resize is TensorFlow's, and the covariance is divided by n."""
    ours = stats_like("stylegan3")
    other = stats_like("torch-fidelity")
    np.testing.assert_allclose(ours.sigma, other.sigma * 3 / 4, rtol=1e-9)
    assert (ours.ddof, other.ddof) == (0, 1)
    assert ours.extractor == other.extractor
    assert ft.LIKE["adm"] == ft.LIKE["torch-fidelity"]


def test_tools_differ(stats_like):
    """Therefore the resize is part of the extractor's name."""
    means = {tool: stats_like(tool) for tool in ft.LIKE if tool not in ("stylegan3", "adm")}
    assert len({stats.extractor for stats in means.values()}) == 4
    default = means.pop("torch-fidelity")
    for tool, stats in means.items():
        assert np.abs(stats.mu - default.mu).max() > 10 * NETWORK_ERROR * np.abs(default.mu).max(), tool


@pytest.mark.parametrize(("height", "width"), [(64, 64), (299, 299), (512, 333), (31, 700), (1, 5)])
def test_resize_of_tensorflow_is_exact(rng, height, width):
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    image = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    expected = interpolate_bilinear_2d_like_tensorflow1x(image[None].float(), size=(299, 299), align_corners=False)[0]
    assert torch.equal(ft.resize(image, "tf1-bilinear", (299, 299)), expected)


@pytest.mark.parametrize("method", ft.RESIZES)
def test_resize_to_the_same_size_changes_nothing(rng, method):
    image = torch.from_numpy(rng.integers(0, 256, (3, 20, 30), dtype=np.uint8))
    torch.testing.assert_close(ft.resize(image, method, (20, 30)), image.float())
