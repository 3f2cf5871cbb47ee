"""Pairs of mean and covariance among several, tensors of unusual layouts, and files that are not regular."""

import os

import numpy as np
import pytest
import torch

import fidfast
from fidfast import GaussianStats
from fidfast._files import read


@pytest.fixture
def pairs(rng):
    """Mean and covariance of two networks."""
    rows = rng.normal(size=(2, 60, 4))
    return [(part.mean(0), np.cov(part, rowvar=False)) for part in rows]


@pytest.mark.parametrize("number", [(), (60,)])
def test_a_pair_without_names(tmp_path, pairs, number):
    np.savez(tmp_path / "x.npz", *pairs[0], *number)
    stats = GaussianStats.load(tmp_path / "x.npz")
    np.testing.assert_array_equal(stats.mu, pairs[0][0])
    np.testing.assert_array_equal(stats.sigma, pairs[0][1])
    assert stats.num_samples == (60 if number else None)
    assert GaussianStats.load(tmp_path / "x.npz", key="arr_0,arr_1").mu.tolist() == stats.mu.tolist()


def test_labels_and_features_are_not_a_pair(tmp_path, rng):
    np.savez(tmp_path / "x.npz", np.arange(5), rng.normal(size=(5, 5)))
    assert read(tmp_path / "x.npz").what == "features"


def test_the_stored_extractor_is_that_of_the_main_pair(tmp_path, pairs):
    (mu, sigma), (mu_dinov2, sigma_dinov2) = pairs
    path = tmp_path / "x.npz"
    np.savez(path, mu=mu, sigma=sigma, mu_dinov2=mu_dinov2, sigma_dinov2=sigma_dinov2, extractor="inception")
    assert read(path).extractor == "inception"
    assert read(path, key="mu_dinov2,sigma_dinov2").extractor == "dinov2"
    for extractor, expected in (("inception", mu), ("dinov2", mu_dinov2)):
        found = read(path, extractor=extractor)
        assert found.extractor == extractor
        np.testing.assert_array_equal(found.mu, expected)


def test_the_stored_extractor_of_labels_that_are_not_networks(tmp_path, pairs):
    (mu, sigma), (mu_b, sigma_b) = pairs
    splits = {"mu_train": mu, "sigma_train": sigma, "mu_test": mu_b, "sigma_test": sigma_b}
    np.savez(tmp_path / "a.npz", **splits, extractor="clip")
    assert read(tmp_path / "a.npz", key="mu_test,sigma_test").extractor == "clip"
    np.savez(tmp_path / "b.npz", **splits, mu=mu, sigma=sigma, extractor="clip")
    assert read(tmp_path / "b.npz", key="mu_test,sigma_test").extractor is None


@pytest.mark.filterwarnings("ignore:Validating sparse tensor", "ignore:Sparse CSR tensor")
def test_tensors_of_unusual_layouts(tmp_path, rng):
    rows = torch.from_numpy(rng.normal(size=(20, 4)))
    for tensor in (torch._neg_view(rows), (rows * 1j).conj().imag, rows.to_sparse(), rows.to_sparse_csr()):
        torch.save(tensor, tmp_path / "x.pt")
        expected = tensor.to_dense() if tensor.layout != torch.strided else tensor.clone()
        np.testing.assert_array_equal(read(tmp_path / "x.pt").features, expected.resolve_neg().numpy())


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pt", ".pkl", ".safetensors", ".zip", ".tar"])
def test_a_fifo_is_not_opened(tmp_path, pairs, suffix):
    path = tmp_path / f"x{suffix}"
    os.mkfifo(path)
    for call in (lambda: fidfast.file_info(path), lambda: fidfast.fid(path, GaussianStats(*pairs[0]))):
        with pytest.raises(ValueError, match=r"x\.\w+ is not a regular file|unknown suffix"):
            call()
