"""`evaluate` with ``like="adm"``: every rule of guided-diffusion's evaluator, on the features of seeded networks."""

import adm
import numpy as np
import pytest
from evaluations import DIMS, Networks, images

import fidfast
import fidfast.torch as ft
from fidfast.torch._evaluation import metrics

OPTIONS = {"device": "cpu", "num_workers": 0, "batch_size": 50, "like": "adm"}
SIDES = images(2, 300), images(3, 250, high=240)

#: Of the root of a product of singular covariances, and of float32 features in another order.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def networks():
    return Networks()


@pytest.fixture(scope="module")
def features(networks):
    """By side and extractor."""
    return [{name: networks.features(name, side) for name in DIMS} for side in SIDES]


def assert_same(found, expected):
    assert list(found.values) == list(expected)
    for name in ("is", "fid", "sfid"):
        assert found[name] == pytest.approx(expected[name], rel=ROUNDING), name
    for name in ("precision", "recall"):
        assert found[name] == expected[name], name


def test_five_numbers_of_images(networks, features):
    found = ft.evaluate(*SIDES, extractors=networks.extractors, **OPTIONS)
    assert_same(found, adm.five_numbers(*features))
    assert "like adm" in found.table().splitlines()
    # Ties of float16 distances count: the numbers of the rule in float64 are others.
    exact = fidfast.precision_recall(*(side["inception"] for side in features))
    assert (found["precision"], found["recall"]) != (exact.precision, exact.recall)


def test_statistics_of_the_file_and_neighbours_of_its_images(networks, features, tmp_path):
    """As ADM's ``VIRTUAL_*.npz``: fewer images than the statistics are of."""
    (mu, sigma), (mu_s, sigma_s) = (adm.stats(features[1][name]) for name in ("inception", "inception-spatial"))
    np.savez(tmp_path / "reference.npz", arr_0=SIDES[1][:100], mu=mu, sigma=sigma, mu_s=mu_s, sigma_s=sigma_s)
    np.savez(tmp_path / "samples.npz", SIDES[0])
    found = ft.evaluate(tmp_path / "samples.npz", tmp_path / "reference.npz", extractors=networks.extractors, **OPTIONS)
    part = {name: rows[:100] for name, rows in features[1].items()}
    of_file = {"inception": (mu, sigma), "inception-spatial": (mu_s, sigma_s)}
    assert_same(found, adm.five_numbers(features[0], part, of_file))


def test_consecutive_splits(networks, monkeypatch):
    """Of sorted images, so that a shuffle would change the score; the last split is smaller."""
    assert metrics.ADM_SPLIT_SIZE == adm.SPLIT_SIZE == 5000
    monkeypatch.setattr(metrics, "ADM_SPLIT_SIZE", 120)
    monkeypatch.setattr(adm, "SPLIT_SIZE", 120)
    ordered = SIDES[0][np.argsort(SIDES[0].mean(axis=(1, 2, 3)))]
    found = ft.evaluate(ordered, None, metrics="is", extractors=networks.extractors, estimate=True, **OPTIONS)
    scores = found.results["is"].scores
    assert len(scores) == 3
    assert found.stderr["is"] == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3))
    logits = networks.features("inception-logits", ordered)
    assert found["is"] == pytest.approx(adm.inception_score(logits), rel=ROUNDING)
    assert found["is"] != pytest.approx(adm.inception_score(np.random.default_rng(0).permutation(logits)), rel=1e-3)
