"""`calculate_metrics` against torch-fidelity's own."""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tolerance import FEATURE_ERROR, distance_error

from fidfast.compat import calculate_metrics
from fidfast.compat import torch_fidelity as ours
from fidfast.compat._fidelity_keywords import checked_keywords

with warnings.catch_warnings():  # of the other tools' imports
    warnings.simplefilter("ignore")
    import torch_fidelity
    import torch_fidelity.defaults
    import torch_fidelity.registry


class Tiny(torch_fidelity.FeatureExtractorBase):
    """A network of torch-fidelity's registry: 6 means and deviations, and 4 logits."""

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **_):
        super().__init__(name, features_list)
        shift = 0.0 if feature_extractor_weights_path is None else float(torch.load(feature_extractor_weights_path))
        self.register_buffer("weight", torch.arange(24.0).reshape(6, 4).cos() + shift)

    @staticmethod
    def get_provided_features_list():
        return "pool", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric):
        return "logits" if metric == "isc" else "pool"

    @staticmethod
    def can_be_compiled():
        return False

    def forward(self, images):
        assert images.dtype == torch.uint8
        scaled = images.float() / 64
        pool = torch.cat([scaled.mean(dim=(2, 3)), scaled.std(dim=(2, 3))], dim=1)
        features = {"pool": pool, "logits": pool @ self.weight}
        return tuple(features[name] for name in self.features_list)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(torch_fidelity.registry.FEATURE_EXTRACTORS_REGISTRY, "tiny", Tiny)


FAST = {"cuda": False, "verbose": False, "save_cpu_ram": True, "cache": False, "batch_size": 4}
TINY = {**FAST, "feature_extractor": "tiny", "kid_subset_size": 5, "kid_subsets": 6, "isc_splits": 3}
ALL = {"isc": True, "fid": True, "kid": True, "prc": True}


def theirs(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_fidelity.calculate_metrics(**options)


def assert_same(found, expected, sides=()):
    """Both results have the same keys in the same order; features of a few units have the rounding of float32."""
    assert list(found) == list(expected)
    for key, value in expected.items():
        error = 1e-4  # of 1 + the value: kernels of features below 4 are below 200, and float32 has 6e-8 of them
        if key == ours.KEY_METRIC_FID:
            error = distance_error(value, *sides) if sides else 1e-4
        assert found[key] == pytest.approx(value, rel=1e-5, abs=error), key


def test_defaults_are_those_of_torch_fidelity():
    values = checked_keywords({"input1": "x", "isc": True})
    original = dict(torch_fidelity.defaults.DEFAULTS)
    assert values.keys() == original.keys() | {"fid_statistics_file"}
    for name, default in original.items():
        if not name.startswith("ppl_") and name not in ("input1", "isc", "batch_size"):
            assert values[name] == default, name


def test_keys_are_those_of_torch_fidelity():
    for name in ours.__all__:
        if name.startswith("KEY_"):
            assert getattr(ours, name) == getattr(torch_fidelity, name)


OPTIONS = [
    {},
    {"rng_seed": 7, "samples_shuffle": False},
    {"kid_kernel_poly_degree": 2, "kid_kernel_poly_gamma": 0.5, "kid_kernel_poly_coef0": 0.25},
    {"prc_neighborhood": 2, "feature_layer_prc": "logits", "feature_layer_fid": "logits", "save_cpu_ram": True},
    {"samples_resize_and_crop": 24, "isc_splits": 2},
    {"feature_layer_isc": "pool", "feature_extractor_compile": False, "feature_extractor_internal_dtype": "float32"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_all_metrics_of_two_folders(folders, options):
    given = {**TINY, **ALL, **options, "input1": str(folders[0]), "input2": str(folders[1])}
    assert_same(calculate_metrics(**given), theirs(**given))


@pytest.mark.parametrize("metric", ALL)
def test_one_metric(folders, metric):
    given = {**TINY, metric: True, "input1": str(folders[0]), "input2": str(folders[1])}
    assert_same(calculate_metrics(**given), theirs(**given))


def test_former_names(folders):
    given = {**TINY, "kid": True, "input1": str(folders[0]), "input2": str(folders[1])}
    former = {"kid_degree": 2, "kid_gamma": 0.5, "kid_coef0": 0.25}
    with pytest.warns(FutureWarning) as warned:
        found = calculate_metrics(**given, **former)
    assert sorted(str(one.message).split()[0] for one in warned) == sorted(former)
    # torch-fidelity 0.4 accepts one former name only.
    assert_same(found, theirs(**given, **{f"kid_kernel_poly_{name[4:]}": value for name, value in former.items()}))


def test_choice_of_files(tmp_path, folders, rng):
    for name in ("b.png", "a.PNG", ".hidden.jpg", "deep/c.jpeg", "d.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
        image.save(tmp_path / name, quality=95)
    for options, number in (({}, 3), ({"samples_find_deep": True}, 4), ({"samples_find_ext": "bmp, png"}, 3)):
        given = {**TINY, **options, "isc": True, "isc_splits": number, "input1": str(tmp_path)}
        assert_same(calculate_metrics(**given), theirs(**given))
        with pytest.raises(ValueError, match=f"isc_splits must be at most {number}, since input1 has {number} images"):
            calculate_metrics(**{**given, "isc_splits": number + 1})
    with pytest.raises(
        ValueError, match=r"input1: .* has no files with samples_find_ext='gif'; samples_find_deep=True"
    ):
        calculate_metrics(**TINY, isc=True, input1=str(tmp_path), samples_find_ext="gif")


class Pictures(torch.utils.data.Dataset):
    def __init__(self, n, seed):
        self.images = np.random.default_rng(seed).integers(0, 256, (n, 3, 7, 6), dtype=np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index])


def test_datasets_and_registered_names(monkeypatch, tmp_path):
    registry = torch_fidelity.registry.DATASETS_REGISTRY
    monkeypatch.setitem(registry, "pictures", lambda root, download: Pictures(12, len(root) * 0 + download))
    given = {**TINY, **ALL, "input1": Pictures(9, 5), "input2": "pictures", "datasets_root": str(tmp_path)}
    for download in (True, False):
        options = {**given, "datasets_download": download}
        assert_same(calculate_metrics(**options), theirs(**options))


class Generator(torch.nn.Module):
    def forward(self, z, labels=None):
        shade = (z[:, :3, None, None] * 50 + 128).clamp(0, 255).expand(-1, -1, 5, 4)
        return (shade if labels is None else (shade + 40 * labels[:, None, None, None]).clamp(0, 255)).to(torch.uint8)


@pytest.mark.parametrize("z_type", ["normal", "unit", "uniform_0_1"])
def test_generators(folders, z_type):
    model = torch_fidelity.GenerativeModelModuleWrapper(Generator(), 4, z_type, 0)
    given = {**TINY, **ALL, "input1": model, "input1_model_num_samples": 10, "input2": str(folders[1])}
    assert_same(calculate_metrics(**given), theirs(**given))
    with pytest.raises(ValueError, match="input1_model_num_samples must be given for a generator"):
        calculate_metrics(**{**given, "input1_model_num_samples": None})


def test_generator_of_classes():
    """torch-fidelity 0.4 fails with NumPy 1.24 or later (``np.int``)."""
    model = torch_fidelity.GenerativeModelModuleWrapper(Generator(), 4, "normal", 2)
    options = {**TINY, "isc": True, "input1_model_num_samples": 10}
    found = calculate_metrics(**options, input1=model)
    random = np.random.RandomState(2020)
    images = []
    for size in (4, 4, 2):
        z = torch.from_numpy(random.randn(size, 4)).float()
        images.append(Generator()(z, torch.from_numpy(random.randint(0, 2, size))))
    assert found == calculate_metrics(**options, input1=torch.cat(images))


def test_statistics_file(tmp_path, folders):
    network = Tiny("tiny", ["pool"])
    images = [torch.from_numpy(np.asarray(Image.open(file)).copy()).movedim(2, 0) for file in folders[1].iterdir()]
    rows = torch.cat([network(image[None])[0] for image in images]).numpy()
    np.savez(tmp_path / "stats.npz", mu=rows.mean(0), sigma=np.cov(rows, rowvar=False))
    given = {**TINY, "fid": True, "isc": True, "input1": str(folders[0])}
    found = calculate_metrics(**given, input2=None, fid_statistics_file=tmp_path / "stats.npz")
    assert_same(found, theirs(**given, input2=str(folders[1])))
    # Beside other metrics of two inputs, only the FID uses the file.
    np.savez(tmp_path / "other.npz", mu=rows.mean(0) + 1, sigma=np.cov(rows, rowvar=False))
    both = {**given, "kid": True, "input2": str(folders[1])}
    other = calculate_metrics(**both, fid_statistics_file=tmp_path / "other.npz")
    changed = {key for key, value in calculate_metrics(**both).items() if other[key] != value}
    assert changed == {ours.KEY_METRIC_FID}
    with pytest.raises(FileNotFoundError, match=r"nothing.npz"):
        calculate_metrics(**given, fid_statistics_file=tmp_path / "nothing.npz")


def test_weights_of_the_network(tmp_path, folders):
    torch.save(torch.tensor(0.5), tmp_path / "weights.pt")
    given = {**TINY, "isc": True, "input1": str(folders[0])}
    found = calculate_metrics(**given, feature_extractor_weights_path=str(tmp_path / "weights.pt"))
    assert found != calculate_metrics(**given)
    assert_same(found, theirs(**given, feature_extractor_weights_path=str(tmp_path / "weights.pt")))


def test_several_layers_run_the_network_once(monkeypatch, folders):
    batches = []
    forward = Tiny.forward
    monkeypatch.setattr(Tiny, "forward", lambda self, images: batches.append(len(images)) or forward(self, images))
    calculate_metrics(**TINY, **ALL, input1=str(folders[0]), input2=str(folders[1]))
    assert sum(batches) == 9 + 7


@pytest.mark.slow
def test_inception(pairs, weights):
    """The layers of the FID, the KID and the score from fidfast's network, and one of torch-fidelity's network."""
    given = {**FAST, "input1": str(pairs[0]), "input2": str(pairs[1]), "kid_subset_size": 2, "kid_subsets": 2}
    given |= {"isc": True, "kid": True, "isc_splits": 1, "feature_extractor_weights_path": str(weights)}
    for layers in ({}, {"feature_layer_kid": "192"}):
        with pytest.warns(UserWarning, match="is not an FID") if not layers else contextlib.nullcontext():
            found = calculate_metrics(**given, **layers)
        expected = theirs(**given, **layers)
        assert list(found) == list(expected)
        # The kernel is cubic in features whose mean square is about 1, so it is about (1 + 1)^3.
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, abs=3 * 8 * FEATURE_ERROR * 10), key


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"fdi": True}, TypeError, r"unexpected keyword argument 'fdi'; did you mean 'fid'\?"),
        ({}, ValueError, "at least one of isc, fid, kid and prc must be True"),
        ({"ppl": True}, ValueError, "ppl=True is not available"),
        ({"kid": True, "kid_kernel": "rbf"}, ValueError, "kid_kernel='rbf' is not available: fidfast.cmmd"),
        ({"kid": True, "kid_kernel": "x"}, ValueError, "kid_kernel must be 'poly' or 'rbf', got 'x'"),
        ({"kid": True}, ValueError, "input2 is required for kid"),
        ({"fid": True}, ValueError, "input2 is required for fid"),
        ({"isc": True, "isc_splits": 0}, ValueError, "isc_splits must be at least 1, got 0"),
        ({"isc": True, "rng_seed": -1}, ValueError, "rng_seed must be at least 0, got -1"),
        ({"isc": True, "cuda": "yes"}, TypeError, "cuda must be True or False, got 'yes'"),
        ({"isc": True, "samples_find_ext": " ,"}, ValueError, "samples_find_ext must list file extensions"),
        (
            {"isc": True, "feature_extractor": "vgg"},
            ValueError,
            "feature_extractor must be one of inception-v3",
        ),
        ({"isc": True, "feature_layer_isc": "fc"}, ValueError, "feature_layer_isc must be one of 64, .*, got 'fc'"),
        ({"isc": True, "input1": "model.pth"}, ValueError, "input1: a generator in a file is not available"),
        ({"isc": True, "input1": 3}, TypeError, "input1: images must be a path"),
        ({"isc": True, "input1": "missing"}, FileNotFoundError, "missing"),
    ],
)
def test_invalid_keywords(options, kind, message):
    with pytest.raises(kind, match=message):
        calculate_metrics(**{"input1": torch.zeros(4, 3, 5, 5, dtype=torch.uint8), **FAST, **options})


@pytest.mark.parametrize("name", sorted(torch_fidelity.defaults.DEFAULTS.keys() | {"fid_statistics_file"}))
def test_every_keyword_is_checked(name):
    """No keyword accepts an object of another type, but those of the metric that is not available."""
    if name.startswith("ppl_"):
        return
    given = {"isc_splits": 2, "kid_subset_size": 2, "kid": True, **FAST}
    images = torch.zeros(4, 3, 5, 5, dtype=torch.uint8)
    with pytest.raises((TypeError, ValueError), match=f"^{name}[ :]"):
        calculate_metrics(**{"input1": images, "input2": images, "isc": True, **given, name: object()})
