"""Our torchmetrics class replaces torchmetrics' own: equal numbers and errors for equal images."""

import importlib
import pickle
import sys
import warnings

import numpy as np
import pytest
import torch
from metric_classes import CLASSES, OURS, Rows, both, filled

import fidfast

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import torch_fidelity


class ChannelMeans(torch.nn.Module):
    """A network without num_features."""

    def forward(self, images):
        return images.double().mean(dim=(2, 3))


@pytest.fixture
def real(rng):
    return torch.from_numpy(rng.standard_normal((400, 24)))


@pytest.fixture
def fake(rng):
    return torch.from_numpy(rng.standard_normal((300, 24)) * 1.2 + 0.1)


# Equal numbers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_numbers_for_equal_features(real, fake, dtype):
    values = [filled(cls(Rows().to(dtype)), real, fake).compute() for cls in CLASSES]
    # float64: theirs solves a nonsymmetric eigenvalue problem, about 1e-11 here. float32: the result is rounded.
    assert values[1].item() == pytest.approx(values[0].item(), rel=1e-9 if dtype == torch.float64 else 3e-7)
    assert values[0].dtype == values[1].dtype == dtype
    assert values[0].shape == values[1].shape == ()
    assert values[1].item() == pytest.approx(fidfast.fid(real.to(dtype), fake.to(dtype)), rel=1e-7)


def test_ours_is_accurate_far_from_the_origin(real, fake):
    expected = fidfast.fid(real, fake)
    got = [filled(cls(Rows()).set_dtype(torch.float64), real + 1e6, fake + 1e6).compute().item() for cls in CLASSES]
    assert got[1] == pytest.approx(expected, rel=1e-8)  # eps times the offset, 1e-10, in standard deviations
    assert abs(got[0] - expected) > 1e-4 * expected  # raw sums: eps times the square of the offset, in each variance


@pytest.mark.parametrize("scale", [1e-25, 1e22])
def test_a_distance_beyond_float32_is_an_error(real, fake, scale):
    """Not 0, which would be a perfect score, nor infinity."""
    metric = filled(CLASSES[1](Rows()), (real * scale).float(), (fake * scale).float())
    with pytest.raises(ValueError, match="is beyond the range of float32: call set_dtype"):
        metric.compute()
    metric.orig_dtype = torch.float64
    assert metric.compute().item() == pytest.approx(scale**2 * fidfast.fid(real, fake), rel=1e-5)


@both
def test_network_without_num_features(cls, rng):
    for normalize, images in (
        (False, rng.integers(0, 255, (40, 5, 8, 8), np.uint8)),
        (True, rng.random((40, 5, 8, 8))),
    ):
        images = torch.from_numpy(images)
        metric = cls(ChannelMeans(), normalize=normalize, input_img_size=(5, 8, 8))
        assert metric.used_custom_model
        assert filled(metric, images, images[:20]).compute() == pytest.approx(
            fidfast.fid(images.double().mean(dim=(2, 3)), images[:20].double().mean(dim=(2, 3))), rel=1e-9
        )


@both
def test_network_that_squeezes_a_single_image(cls):
    class Squeezing(Rows):
        def forward(self, rows):
            return super().forward(rows).squeeze(0)

    metric = cls(Squeezing(3))
    for i in range(4):
        metric.update(torch.arange(i, i + 3.0)[None] ** i, real=True)
        metric.update(torch.arange(i, i + 3.0)[None] ** i, real=False)
    assert metric.compute() == pytest.approx(0, abs=1e-3)


@both
def test_integer_features(cls, real):
    class Rounding(torch.nn.Module):
        num_features = 24

        def forward(self, rows):
            return (8 * rows).round().int()

    metric = filled(cls(Rounding()), real[:200], real[200:])
    assert metric.compute().dtype == torch.int32
    rounded = (8 * real).round()
    assert metric.compute() == int(fidfast.fid(rounded[:200], rounded[200:]))


# The Inception network ----------------------------------------------------------------------------------------------


def with_inception(cls, weights, feature=64, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ours warns about the weights
        return cls(feature, feature_extractor_weights_path=str(weights), **options)


@pytest.fixture(scope="module", params=CLASSES, ids=["theirs", "ours"])
def first_layer(request, weights):
    return with_inception(request.param, weights)


def uint8_images(n, low=0, high=255, side=32, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (n, 3, side, side), dtype=torch.uint8, generator=random)


def test_network_stays_in_evaluation_mode(first_layer):
    model = torch.nn.ModuleDict({"metric": first_layer, "net": torch.nn.Linear(2, 2)}).train()
    assert model.training
    assert not model["metric"].inception.training


@pytest.mark.parametrize("feature", [64, *(pytest.param(n, marks=pytest.mark.slow) for n in (192, 768)), 2048])
def test_layers(weights, feature):
    """The features are exactly equal, and the distance of equal images is zero."""
    images, features = uint8_images(2, side=40), []
    for cls in CLASSES:
        metric = with_inception(cls, weights, feature)
        features.append(metric.inception(images).detach())
        for side in (True, False):
            metric.update(images, real=side)
        rows = features[-1].double()
        for kind in ("real", "fake"):
            assert torch.equal(getattr(metric, f"{kind}_features_num_samples"), torch.tensor(2))
            torch.testing.assert_close(getattr(metric, f"{kind}_features_sum"), rows.sum(dim=0))
            torch.testing.assert_close(getattr(metric, f"{kind}_features_cov_sum"), rows.T @ rows)
        if cls is OURS or feature < 768:  # theirs takes seconds for more features
            assert metric.compute() == pytest.approx(0, abs=1e-3)
    assert features[0].shape == (2, feature)
    assert torch.equal(features[0], features[1])


@pytest.mark.parametrize("antialias", [True, False])
def test_equal_numbers_for_equal_images(weights, antialias):
    real, fake = uint8_images(8, 0, 200, side=24), uint8_images(7, 100, 255, side=24)
    metrics = [filled(with_inception(cls, weights, antialias=antialias), real, fake) for cls in CLASSES]
    for kind in ("real", "fake"):
        for what in ("sum", "cov_sum"):
            one, two = (getattr(metric, f"{kind}_features_{what}") for metric in metrics)
            torch.testing.assert_close(one, two, rtol=1e-12, atol=0)
    # With fewer images than features, theirs takes roots of rounding errors: sqrt(eps) of the scale per feature.
    assert metrics[1].compute().item() == pytest.approx(metrics[0].compute().item(), rel=1e-6)


def test_equals_torch_fidelity(weights, tmp_path):
    """For images of the network's input size, which need no resize."""

    class Images(torch.utils.data.Dataset):
        def __init__(self, images):
            self.images = images

        def __getitem__(self, index):
            return self.images[index]

        def __len__(self):
            return len(self.images)

    one, two = uint8_images(6, 0, 180, 299), uint8_images(5, 100, 255, 299, seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = torch_fidelity.calculate_metrics(
            input1=Images(one), input2=Images(two), fid=True, feature_layer_fid="64", batch_size=10, cuda=False,
            cache=False, save_cpu_ram=True, verbose=False, feature_extractor_weights_path=str(weights),
        )  # fmt: skip
    for cls in CLASSES:
        metric = filled(with_inception(cls, weights), one, two, 10)
        assert metric.compute() == pytest.approx(expected["frechet_inception_distance"], abs=1e-3)


def test_normalize(first_layer, weights):
    images = uint8_images(4)
    with pytest.raises(ValueError, match=r"Expecting image as torch\.Tensor with dtype=torch\.uint8"):
        first_layer.clone().update(images / 255, real=True)
    metric = with_inception(type(first_layer), weights, normalize=True)
    assert not metric.used_custom_model
    metric.update(images / 255, real=True)
    metric.update((images / 255 * 255).byte() / 255, real=False)  # the rounding of normalize
    assert metric.compute() == pytest.approx(0, abs=1e-3)


def test_set_dtype_changes_the_network(first_layer):
    metric = first_layer.clone().set_dtype(torch.float64)
    assert metric.inception(uint8_images(1)).dtype == torch.float64
    metric.update(uint8_images(3), real=True)
    metric.update(uint8_images(3, seed=1), real=False)
    assert metric.compute().dtype == torch.float64
    for cast in ("half", "float", "double"):  # ignored, as in torchmetrics
        assert getattr(metric, cast)() is metric
    assert metric.inception(uint8_images(1)).dtype == torch.float64


def test_pickle_with_the_network(first_layer):
    metric = first_layer.clone()
    metric.update(uint8_images(3), real=True)
    again = pickle.loads(pickle.dumps(metric))
    for one in (metric, again):
        one.update(uint8_images(4, seed=1), real=False)
    assert again.compute() == metric.compute()
    torch.testing.assert_close(again.real_features_sum, metric.real_features_sum, rtol=0, atol=0)


def test_checkpoints_have_the_same_keys(weights):
    keys = [list(with_inception(cls, weights).state_dict()) for cls in CLASSES]
    assert keys[0] == keys[1]
    with_inception(OURS, weights).load_state_dict(with_inception(CLASSES[0], weights).state_dict())


def test_other_weights_warn(weights):
    with pytest.warns(UserWarning, match="are not those of 2015-12-05") as warned:
        metric = OURS(feature_extractor_weights_path=str(weights))
    assert warned[0].filename == __file__
    assert metric.real_moments.extractor.endswith("/torch-bilinear-antialias-299")
    assert metric.num_features == 2048


def test_missing_or_damaged_weights(monkeypatch, tmp_path):
    def no_network(url, *_arguments, **_options):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded \(no network\); download https"):
        OURS()
    (tmp_path / "weights.pth").write_bytes(b"none")
    with (
        pytest.warns(UserWarning, match="not those of 2015"),
        pytest.raises(ValueError, match="is damaged or holds objects other than weights"),
    ):
        OURS(feature_extractor_weights_path=str(tmp_path / "weights.pth"))


# Errors -------------------------------------------------------------------------------------------------------------


@both
def test_arguments(cls):
    with pytest.raises(ValueError, match=r"Integer input to argument `feature` must be one of .*, but got 2"):
        cls(feature=2)
    with pytest.raises(TypeError, match="Got unknown input to argument `feature`"):
        cls(feature=[1, 2])
    for argument in ("normalize", "reset_real_features"):
        with pytest.raises(ValueError, match=f"Argument `{argument}` expected to be a bool"):
            cls(Rows(), **{argument: 1})
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `featur`"):
        cls(Rows(), featur=3)
    network = Rows()
    network.num_features = "many"
    with pytest.raises(TypeError, match="num_features` to be of type int or Tensor"):
        cls(network)
    network.num_features = torch.tensor(24)
    cls(network)


@both
@pytest.mark.parametrize(("n_real", "n_fake"), [(1, 5), (5, 1), (1, 1)])
def test_not_enough_samples(cls, real, fake, n_real, n_fake):
    metric = filled(cls(Rows()), real[:n_real], fake[:n_fake])
    message = "More than one sample is required for both the real and fake distributed to compute FID"
    with pytest.raises(RuntimeError, match=message):
        metric.compute()
    # Before any update, torchmetrics warns first.
    with pytest.warns(UserWarning, match="was called before the ``update`` method"), pytest.raises(RuntimeError):
        cls(Rows()).compute()


def test_errors_of_ours_only(real, fake):
    metric = filled(OURS(Rows(), reset_real_features=False), real, fake)
    value, state = metric.compute(), metric.fake_state
    bad = fake.clone()
    bad[3, 4] = torch.nan
    for call in (metric.update, metric):
        with pytest.raises(ValueError, match="features hold NaN or infinity; the first such row is 3"):
            call(bad, real=False)
        with pytest.raises(ValueError, match="features have 23 columns, but Moments was created with dim=24"):
            call(fake[:, 1:], real=False)
        assert torch.equal(metric.fake_state, state)
    assert metric.compute() == value


def test_setting_the_moments(real, fake):
    metric = filled(OURS(Rows()), real, fake)
    other = OURS(Rows(), reset_real_features=False)
    other.real_moments, other.fake_moments = metric.real_moments, metric.fake_moments
    other.update(fake[:0], real=False)
    assert other.compute() == metric.compute()
    other.update(real, real=True)
    assert (other.real_moments.num_samples, metric.real_moments.num_samples) == (800, 400)
    with pytest.raises(ValueError, match="moments has dim 3, but this metric has 24 features"):
        other.real_moments = fidfast.Moments(3)
    with pytest.raises(ValueError, match="the state has 5 numbers, but 6 rows with dim=24 need"):
        other.fake_state = torch.arange(1.0, 6.0)


def test_torchmetrics_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ModuleNotFoundError, match="feature=64 needs torch-fidelity: pip install torch-fidelity"):
        OURS(64)
    OURS(Rows())  # does not need it
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "fidfast.torch.torchmetrics")
    with pytest.raises(ImportError, match=r"fidfast.torch.torchmetrics needs torchmetrics: pip install torchmetrics"):
        importlib.import_module("fidfast.torch.torchmetrics")
