"""Equal statistics have distance 0, exactly, in whatever form they are given."""

import itertools
import pickle

import numpy as np
import pytest
import torch

import fidfast
import fidfast.torch
from fidfast import GaussianStats, Moments


def forms_of(rows, folder):
    """The same statistics as features, moments and statistics, from memory and from files."""
    np.save(folder / "rows.npy", rows)
    moments = Moments.from_features(rows)
    moments.save(folder / "moments.npz")
    moments.stats().save(folder / "stats.npz")
    return {
        "rows": rows,
        "the same rows in Fortran order": np.asfortranarray(rows),
        "tensor": torch.from_numpy(rows.copy()),
        "memory map": np.load(folder / "rows.npy", mmap_mode="r"),
        "path of features": folder / "rows.npy",
        "moments": moments,
        "path of moments": folder / "moments.npz",
        "statistics": moments.stats(),
        "path of statistics": folder / "stats.npz",
        "loaded": GaussianStats.load(folder / "stats.npz"),
        "unpickled": pickle.loads(pickle.dumps(moments.stats())),
        "arrays": GaussianStats(moments.stats().mu, moments.stats().sigma),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "dim"), [(2, 9), (9, 9), (10, 9), (500, 9), (9000, 3)])  # 9,000 rows are read in slices
def test_distance_is_zero_in_any_form(rng, tmp_path, n, dim, dtype):
    rows = (rng.standard_normal((n, dim)) * np.logspace(0, -3, dim) + 0.3).astype(dtype)
    forms = forms_of(rows, tmp_path)
    for one, two in itertools.combinations_with_replacement(forms, 2):
        assert fidfast.fid(forms[one], forms[two]) == 0, (one, two)
    for form in forms.values():
        for terms in (fidfast.frechet_terms(form, rows), fidfast.frechet_terms(rows, form)):
            assert terms.distance == terms.mean_term == 0
            assert terms.rounding <= 4e-15 * terms.trace_samples
            assert terms.trace_root == terms.trace_samples == terms.trace_reference > 0
            assert terms.rank == min(n - 1, dim)


def test_distance_is_zero_for_float32_products(rng, tmp_path):
    """From dim 512 on."""
    forms = forms_of(rng.standard_normal((600, 512)).astype(np.float32), tmp_path)
    for name in ("rows", "memory map", "path of moments", "loaded"):
        assert fidfast.fid(forms["tensor"], forms[name]) == 0, name


def test_nearly_equal_statistics_are_not_equal(rng):
    rows = rng.standard_normal((50, 4))
    stats = fidfast.Moments.from_features(rows).stats()
    moved, wider = stats.mu.copy(), stats.sigma.copy()
    moved[2] += 1e-3
    wider[3, 3] *= 1.01
    assert fidfast.fid(stats, GaussianStats(moved, stats.sigma)) == pytest.approx(1e-6)
    assert fidfast.fid(stats, GaussianStats(stats.mu, wider)) > 0
    few = fidfast.Moments.from_features(rows[:3]).stats()
    assert fidfast.fid(few, GaussianStats(few.mu, few.sigma + np.diag([0, 0, 1.0, 0]))) > 0.1


def test_covariances_without_variance_or_with_noise_are_equal_to_themselves():
    for sigma in (
        np.zeros((3, 3)),
        np.float16(np.cov(np.random.default_rng(0).standard_normal((5, 20)), rowvar=False)),
    ):
        stats = GaussianStats(np.ones(len(sigma)), sigma, negative_tolerance=0.1)
        assert fidfast.frechet_terms(stats, stats).distance == fidfast.fid(stats, stats) == 0


def test_metrics_of_equal_statistics(rng):
    rows = rng.standard_normal((60, 6)).astype(np.float32)
    metric = fidfast.torch.FrechetDistance(None, rows)
    metric.update_features(torch.from_numpy(rows))
    assert metric.compute() == 0
    classes = [fidfast.ClassMoments(6), fidfast.ClassMoments(6)]
    for moments in classes:
        moments.update(rows, np.arange(60) % 3)
    assert set(fidfast.class_distances(*classes).distances.values()) == {0.0}
    assert fidfast.estimate(rows, Moments.from_features(rows).stats()).value == 0
