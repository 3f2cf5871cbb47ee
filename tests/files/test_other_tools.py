"""Files of other tools: names, dtypes and containers of statistics; StyleGAN, EDM2 and torch-fidelity."""

import base64
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
import torch_fidelity.metric_fid
import torch_fidelity.utils

import fidfast
from fidfast import GaussianStats
from fidfast._files import read
from fidfast._inputs import open_input


@pytest.fixture
def rows(rng):
    return rng.standard_normal((400, 6))


@pytest.fixture
def pair(rows):
    return {"mu": rows.mean(axis=0), "sigma": np.cov(rows, rowvar=False)}


def loaded(path, content, **options):
    """The statistics of a pickle with this content."""
    path.write_bytes(pickle.dumps(content))
    return GaussianStats.load(path, **options)


def error_of(path, content, **options):
    with pytest.raises(ValueError, match=path.name) as caught:
        loaded(path, content, **options)
    return str(caught.value)


# torch-fidelity -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cache_of_torch_fidelity(tmp_path, rows, dtype):
    features = torch.from_numpy(rows).to(dtype)
    statistics = torch_fidelity.utils.cache_lookup_one_recompute_on_miss(
        "set-stat-fid-2048",
        lambda: torch_fidelity.metric_fid.fid_features_to_statistics(features),
        cache=True,
        cache_root=str(tmp_path),
        verbose=False,
    )
    assert statistics["mu"].dtype == np.dtype(str(dtype).removeprefix("torch."))
    stats = GaussianStats.load(tmp_path / "set-stat-fid-2048.pt")
    np.testing.assert_array_equal(stats.mu, statistics["mu"])
    np.testing.assert_array_equal(stats.sigma, statistics["sigma"])


def test_cached_features_of_torch_fidelity(tmp_path, rows):
    torch_fidelity.utils.cache_lookup_group_recompute_all_on_any_miss(
        "set-features-",
        ["2048"],
        lambda: {"2048": torch.from_numpy(rows)},
        cache=True,
        cache_root=str(tmp_path),
        verbose=False,
    )
    np.testing.assert_array_equal(open_input(tmp_path / "set-features-2048.pt", "a").rows, rows)


#: {"mu": float32 [0.5, 1], "sigma": float64 diag(1, 2), "num_samples": np.int64(7)}, pickled by NumPy 1.26.
NUMPY_1_PICKLE = base64.b64decode("""
gAJ9cQAoWAIAAABtdXEBY251bXB5LmNvcmUubXVsdGlhcnJheQpfcmVjb25zdHJ1Y3QKcQJjbnVtcHkKbmRhcnJheQpxA0sAhXEEY19jb2RlY3MKZW5j
b2RlCnEFWAEAAABicQZYBgAAAGxhdGluMXEHhnEIUnEJh3EKUnELKEsBSwKFcQxjbnVtcHkKZHR5cGUKcQ1YAgAAAGY0cQ6JiIdxD1JxEChLA1gBAAAA
PHERTk5OSv////9K/////0sAdHESYoloBVgJAAAAAAAAPwAAwoA/cRNoB4ZxFFJxFXRxFmJYBQAAAHNpZ21hcRdoAmgDSwCFcRhoCYdxGVJxGihLAUsC
SwKGcRtoDVgCAAAAZjhxHImIh3EdUnEeKEsDaBFOTk5K/////0r/////SwB0cR9iiWgFWCEAAAAAAAAAAADDsD8AAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AEBxIGgHhnEhUnEidHEjYlgLAAAAbnVtX3NhbXBsZXNxJGNudW1weS5jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnElaA1YAgAAAGk4cSaJiIdxJ1JxKChL
A2gRTk5OSv////9K/////0sAdHEpYmgFWAgAAAAHAAAAAAAAAHEqaAeGcStScSyGcS1ScS51Lg==
""")
#: The same, saved by ``numpy.save``.
NUMPY_1_NPY = base64.b64decode("""
k05VTVBZAQB2AHsnZGVzY3InOiAnfE8nLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoKSwgfSAgICAgICAgICAgICAgICAgICAgICAg
ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAqAA2NudW1weS5jb3JlLm11bHRpYXJyYXkKX3JlY29uc3RydWN0CnEAY251bXB5
Cm5kYXJyYXkKcQFLAIVxAkMBYnEDh3EEUnEFKEsBKWNudW1weQpkdHlwZQpxBlgCAAAATzhxB4mIh3EIUnEJKEsDWAEAAAB8cQpOTk5K/////0r/////
Sz90cQtiiV1xDH1xDShYAgAAAG11cQ5oAGgBSwCFcQ9oA4dxEFJxEShLAUsChXESaAZYAgAAAGY0cROJiIdxFFJxFShLA1gBAAAAPHEWTk5OSv////9K
/////0sAdHEXYolDCAAAAD8AAIA/cRh0cRliWAUAAABzaWdtYXEaaABoAUsAhXEbaAOHcRxScR0oSwFLAksChnEeaAZYAgAAAGY4cR+JiIdxIFJxIShL
A2gWTk5OSv////9K/////0sAdHEiYolDIAAAAAAAAPA/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAcSN0cSRiWAsAAABudW1fc2FtcGxlc3ElY251bXB5
LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcSZoBlgCAAAAaThxJ4mIh3EoUnEpKEsDaBZOTk5K/////0r/////SwB0cSpiQwgHAAAAAAAAAHErhnEsUnEt
dWF0cS5iLg==
""")


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".npy"])
def test_pickles_of_numpy_1(tmp_path, suffix):
    """They name ``numpy.core``. A ``.pt`` of torch-fidelity holds such a pickle and no tensors."""
    path = tmp_path / f"x{suffix}"
    assert b"numpy.core.multiarray" in NUMPY_1_PICKLE
    if suffix == ".pt":
        torch.save({}, tmp_path / "empty.pt")
        with zipfile.ZipFile(tmp_path / "empty.pt") as empty, zipfile.ZipFile(path, "w") as archive:
            for name in empty.namelist():
                archive.writestr(name, NUMPY_1_PICKLE if name.endswith("data.pkl") else empty.read(name))
    else:
        path.write_bytes(NUMPY_1_NPY if suffix == ".npy" else NUMPY_1_PICKLE)
    stats = GaussianStats.load(path)
    assert (stats.mu.tolist(), stats.sigma.tolist(), stats.num_samples) == ([0.5, 1], [[1, 0], [0, 2]], 7)


# Dtypes and containers ----------------------------------------------------------------------------------------------

DTYPES = "u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 >f4 >f8".split()  # noqa: SIM905
TENSORS = "uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 float8_e4m3fn".split()  # noqa: SIM905
MU, SIGMA = [1, 2], [[2, 1], [1, 3]]


def check(path):
    stats = GaussianStats.load(path)
    assert (stats.mu.tolist(), stats.sigma.tolist()) == (MU, SIGMA)
    assert fidfast.fid(path, (np.array(MU), np.array(SIGMA))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_dtype(tmp_path, dtype):
    content = {"mu": np.array(MU, dtype), "sigma": np.array(SIGMA, dtype), "flag": np.bool_(True), "name": np.str_("x")}
    torch.save(content, tmp_path / "x.pt")
    np.savez(tmp_path / "x.npz", **content)
    np.save(tmp_path / "x.npy", content)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    for path in sorted(tmp_path.iterdir()):
        check(path)


@pytest.mark.parametrize("dtype", TENSORS)
def test_tensors_of_every_dtype(tmp_path, dtype):
    kind = getattr(torch, dtype)
    mu, sigma = torch.tensor(MU, dtype=torch.float64).to(kind), torch.tensor(SIGMA, dtype=torch.float64).to(kind)
    if kind.is_floating_point and not dtype.startswith("float8"):
        torch.save({"mu": mu.requires_grad_(), "sigma": torch.nn.Parameter(sigma)}, tmp_path / "gradients.pt")
    content = {"mu": mu.detach(), "sigma": sigma.detach()}
    torch.save(content, tmp_path / "x.pt")
    torch.save((mu, sigma), tmp_path / "tuple.pt")
    safetensors.torch.save_file(content, tmp_path / "x.safetensors")
    for path in sorted(tmp_path.iterdir()):
        check(path)
    if dtype != "float8_e4m3fn":  # F8_E4M3 in safetensors
        entries = {"mu": f"{dtype} (2,)", "sigma": f"{dtype} (2, 2)"}
        assert fidfast.file_info(tmp_path / "x.safetensors").entries == entries


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_features_that_require_gradients(tmp_path, rows, dtype):
    features = torch.from_numpy(rows).to(dtype)
    torch.save(torch.nn.Parameter(features), tmp_path / "a.pt")
    torch.save({"features": features.clone().requires_grad_()}, tmp_path / "b.pt")
    safetensors.torch.save_file({"features": features}, tmp_path / "c.safetensors", metadata={"extractor": "net"})
    for path in sorted(tmp_path.iterdir()):
        # float32 sums of 400 rows: 1e-6 of each variance, of 6 units.
        assert fidfast.fid(path, features.double()) == pytest.approx(0, abs=1e-5)
    assert open_input(tmp_path / "c.safetensors", "a").extractor == "net"


@pytest.mark.parametrize(
    "names",
    [("mean", "cov"), ("m", "s"), ("mu", "cov"), ("mean", "sigma"), ("mean", "covariance"), ("mus", "sigmas"),
     ("Mu", "Sigma"), ("m1", "s1"), ("real_mu", "real_sigma"), ("mu_clip", "sigma_clip"), ("fid/mu", "fid/sigma")],
)  # fmt: skip
def test_names_of_mean_and_covariance(tmp_path, pair, names):
    np.savez(tmp_path / "x.npz", **dict(zip(names, pair.values(), strict=True)), mean_of_something=np.zeros(2))
    extractor = {"mu_clip": "clip", "fid/mu": "inception"}.get(names[0])
    assert GaussianStats.load(tmp_path / "x.npz") == GaussianStats(**pair, extractor=extractor)
    np.testing.assert_array_equal(GaussianStats.load(tmp_path / "x.npz").sigma, pair["sigma"])


def test_names_that_are_not_a_mean_and_a_covariance(tmp_path, pair):
    for names in (("mean", "std"), ("mu_a", "sigma_b"), ("m", "sigma_s"), ("raw_mean", "raw_cov"), ("sum", "cov")):
        content = dict(zip(names, pair.values(), strict=True))
        assert "holds neither 'mu' and 'sigma' nor features" in error_of(tmp_path / "x.pkl", content)
    message = error_of(tmp_path / "x.pkl", {"mu1": pair["mu"], "sigma1": pair["sigma"], "mu2": MU, "sigma2": SIGMA})
    assert "holds several statistics: 'mu1,sigma1', 'mu2,sigma2'; choose one with key= or --key" in message
    wrong = error_of(tmp_path / "x.pkl", {"mu": pair["sigma"], "sigma": pair["mu"]})
    assert "mu must be 1-D (dim,), got shape (6, 6)" in wrong


@pytest.mark.parametrize("container", [tuple, list])
def test_mean_and_covariance_without_names(tmp_path, rows, pair, container):
    given = container(pair.values())
    expected = GaussianStats(**pair)
    assert loaded(tmp_path / "x.pkl", given) == expected
    assert loaded(tmp_path / "x.pkl", container([*given, 400])).num_samples == 400
    torch.save(given, tmp_path / "x.pt")
    assert GaussianStats.load(tmp_path / "x.pt") == expected
    tensors = container(map(torch.from_numpy, given))
    for source in (given, tensors, pair, {"mean": tensors[0], "cov": tensors[1]}):
        assert fidfast.fid(source, rows) == fidfast.fid(expected, rows)
    for source in (given[::-1], [given[0], given[0]], [rows, rows]):
        with pytest.raises((TypeError, ValueError), match="features_a: "):
            fidfast.fid(source, rows)


def test_lists_of_numbers(tmp_path, pair):
    content = {key: value.tolist() for key, value in pair.items()}
    assert loaded(tmp_path / "x.pkl", content) == GaussianStats(**pair)


def test_a_stray_object_beside_the_statistics(tmp_path, pair):
    np.savez(tmp_path / "x.npz", **pair, args=np.array([{"batch": 50}, "path"], dtype=object))
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("readme.txt", "statistics")
    assert GaussianStats.load(tmp_path / "x.npz") == GaussianStats(**pair)
    assert fidfast.file_info(tmp_path / "x.npz").entries["args"] == "object (2,)"
    np.savez(tmp_path / "dictionary.npz", np.array(pair, dtype=object))
    assert GaussianStats.load(tmp_path / "dictionary.npz") == GaussianStats(**pair)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("beside", [False, True])
def test_pickled_dictionaries_execute_no_code(tmp_path, pair, beside):
    executed = tmp_path / "executed"
    dictionary = np.array({**pair, "payload": Payload(executed)}, dtype=object)
    np.save(tmp_path / "x.npy", dictionary)
    np.savez(tmp_path / "x.npz", dictionary=dictionary, **(pair if beside else {}))
    with pytest.raises(ValueError, match=r"x\.npy holds pickled objects, which are not loaded: it needs \w+\.mkdir"):
        GaussianStats.load(tmp_path / "x.npy")
    if beside:
        assert GaussianStats.load(tmp_path / "x.npz") == GaussianStats(**pair)
    else:
        with pytest.raises(ValueError, match=r"x\.npz holds .* its keys are 'dictionary' object \(\)"):
            GaussianStats.load(tmp_path / "x.npz")
    assert not executed.exists()


def test_containers_that_hold_themselves(tmp_path, pair):
    content = dict(pair)
    content["self"] = content
    assert "x.pkl cannot be read: its containers are nested deeper than 100 levels" in error_of(
        tmp_path / "x.pkl", content
    )


@pytest.mark.parametrize("key", ["num_samples", "num_images", "num_items", "n_samples", "n"])
@pytest.mark.parametrize("value", [400, 400.0, np.int32(400), np.array([400]), np.array([[400]]), torch.tensor([400])])
def test_number_of_samples(tmp_path, pair, key, value):
    torch.save({**pair, key: value}, tmp_path / "x.pt")
    if np.ndim(value) < 2 or key == "num_samples":
        assert GaussianStats.load(tmp_path / "x.pt").num_samples == 400


def test_numbers_of_samples_that_are_none(tmp_path, pair):
    for value in (np.array([1, 2]), 2.5, float("nan"), "many"):
        assert "num_samples must be " in error_of(tmp_path / "x.pkl", {**pair, "num_samples": value})


# EDM2 and StyleGAN --------------------------------------------------------------------------------------------------


@pytest.fixture
def metrics(pair):
    """What EDM2 writes."""
    return {"num_images": 50000, "fid": pair, "fd_dinov2": {"mu": np.zeros(3), "sigma": np.eye(3)}}


def test_statistics_by_metric(tmp_path, metrics):
    path = tmp_path / "x.pkl"
    stats = loaded(path, metrics)
    assert (stats.dim, stats.num_samples, stats.extractor) == (6, 50000, "inception")
    stats = GaussianStats.load(path, key="fd_dinov2")
    assert (stats.dim, stats.num_samples, stats.extractor) == (3, 50000, "dinov2")
    assert GaussianStats.load(path, key="fd_dinov2/mu,fd_dinov2/sigma") == stats
    assert fidfast.file_info(path).keys == ("fid", "fd_dinov2")
    assert read(path).note == "statistics 'fid' (the file also holds 'fd_dinov2')"
    assert "has no 'fd_clip'; its keys are 'num_images' int64 (), 'fid/mu' " in error_of(path, metrics, key="fd_clip")


@pytest.mark.parametrize(
    ("extractor", "key", "found"),
    [
        (None, None, (6, "inception")),
        ("inception-2015-12-05", None, (6, "inception-2015-12-05")),
        ("dinov2", None, (3, "dinov2")),
        ("timm:vit_large_patch14_DINOv2.lvd142m", None, (3, "timm:vit_large_patch14_DINOv2.lvd142m")),
        ("dinov2", "fid", (6, "inception")),
        ("inception", "fd_dinov2", (3, "dinov2")),
    ],
)
def test_the_extractor_chooses_the_metric(tmp_path, metrics, extractor, key, found):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(metrics))
    opened = open_input(tmp_path / "x.pkl", "a", extractor=extractor, key=key)
    assert (opened.dim, opened.extractor) == found


def test_an_extractor_without_a_metric(tmp_path, metrics):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(metrics))
    message = (
        "holds statistics 'fid' of inception and 'fd_dinov2' of dinov2, but the extractor is clip; choose one with"
    )
    with pytest.raises(ValueError, match=message):
        open_input(tmp_path / "x.pkl", "a", extractor="clip")


def test_several_unknown_dictionaries_are_ambiguous(tmp_path, pair):
    content = {"train": pair, "test": {"mu": np.zeros(3), "sigma": np.eye(3)}}
    assert "holds several statistics: 'train', 'test'; choose" in error_of(tmp_path / "x.pkl", content)
    assert GaussianStats.load(tmp_path / "x.pkl", key="test").dim == 3
    assert fidfast.file_info(tmp_path / "x.pkl").keys == ("train", "test")
    assert loaded(tmp_path / "x.pkl", {"train": pair}) == GaussianStats(**pair)


def feature_stats(rows, *, capture_all=False, capture_mean_cov=True, **changes):
    """The dictionary of StyleGAN's FeatureStats after two batches."""
    width = rows.shape[1]
    batches = [rows[:300].astype(np.float32), rows[300:].astype(np.float32)] if capture_all else []
    mean, cov = (rows.sum(axis=0), rows.T @ rows) if capture_mean_cov else (np.zeros(width), np.zeros((width, width)))
    flags = {"capture_all": capture_all, "capture_mean_cov": capture_mean_cov, "max_items": 400}
    state = {"num_items": len(rows), "num_features": width, "all_features": batches, "raw_mean": mean, "raw_cov": cov}
    return {**flags, **state, **changes}


def test_rows_of_stylegan(tmp_path, rows):
    """StyleGAN stores sums of zero beside rows."""
    path, other = tmp_path / "x.pkl", rows + 1
    expected = fidfast.fid(rows, other)
    for form in (list, np.concatenate, lambda batches: list(map(torch.from_numpy, batches))):
        content = feature_stats(rows, capture_all=True, capture_mean_cov=False)
        torch.save({**content, "all_features": form(content["all_features"])}, tmp_path / "x.pt")
        # float32 rows: 1e-6 of the distance 6.
        assert fidfast.fid(tmp_path / "x.pt", other) == pytest.approx(expected, rel=1e-5)
    path.write_bytes(pickle.dumps(feature_stats(rows, capture_all=True, capture_mean_cov=False)))
    assert fidfast.fid(path, other) == pytest.approx(expected, rel=1e-5)
    assert fidfast.kid(path, other).value == pytest.approx(fidfast.kid(rows, other).value, rel=1e-4)
    info = fidfast.file_info(path)
    assert (info.holds, info.properties["shape"], info.keys) == ("features", [400, 6], ("all_features",))
    path.write_bytes(pickle.dumps(feature_stats(rows, capture_all=True, capture_mean_cov=True)))
    assert read(path).note == "statistics (the file also holds features of 400 samples)"
    np.testing.assert_allclose(GaussianStats.load(path).sigma, np.cov(rows, rowvar=False, ddof=0), atol=1e-13)
    assert read(path, rows=True).features.shape == (400, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capture_mean_cov": False}, "num_items is 400, but raw_mean and raw_cov are not sums"),
        ({"raw_cov": np.zeros((6, 6))}, "num_items is 400, but raw_mean and raw_cov are not sums"),
        ({"num_items": 0}, "there are no samples: num_items is 0"),
        ({"num_items": 1}, "num_samples must be at least 2, got 1"),
        ({"raw_mean": np.full(6, np.nan)}, "mu holds NaN"),
        ({"raw_mean": None, "raw_cov": None, "all_features": None}, "holds neither 'mu' and 'sigma' nor features"),
        (
            {"capture_all": True, "capture_mean_cov": False, "num_items": 399},
            "num_items is 399, but all_features has 400",
        ),
    ],
)
def test_incomplete_files_of_stylegan(tmp_path, rows, changes, message):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(feature_stats(rows, **changes)))
    with pytest.raises(ValueError, match=message):
        fidfast.fid(tmp_path / "x.pkl", rows)
