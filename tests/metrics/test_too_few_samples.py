"""The result says when a side has at most as many samples as dimensions."""

import warnings

import numpy as np
import pytest

import fidfast


@pytest.mark.parametrize("k", [0, 1])
def test_a_distance_of_few_samples_has_three_digits_and_a_note(rng, k):
    few, many = rng.standard_normal((24, 30)), rng.standard_normal((400, 30))
    terms = fidfast.frechet_terms(*((few, many) if k == 0 else (many, few)))
    assert terms.note == (
        "24 samples in dim 30 are too few: most of this distance may be bias; use kid, which has none, or at least 61 "
        "samples"
    )
    assert str(terms).startswith(f"Fréchet distance {terms.distance_text}, rounding")
    assert str(terms).endswith(terms.note)
    assert terms.to_dict()["note"] == terms.note


@pytest.mark.parametrize(("n", "few"), [(2, True), (30, True), (31, False), (400, False)])
def test_few_are_at_most_dim(rng, n, few):
    terms = fidfast.frechet_terms(rng.standard_normal((n, 30)), rng.standard_normal((400, 30)))
    assert (terms.note is not None) == few
    assert float(terms.distance_text) == pytest.approx(terms.distance, rel=5e-3 if few else 1e-7)
    assert len(terms.distance_text.replace(".", "").lstrip("0")) <= (3 if few else 8)


def test_large_distances_of_few_samples_have_no_exponent(rng):
    terms = fidfast.frechet_terms(rng.standard_normal((24, 30)) * 10, np.zeros((2, 30)))
    assert 1000 < terms.distance < 10000
    assert terms.distance_text == str(round(terms.distance, -1)).removesuffix(".0")


def test_an_unknown_number_has_no_note(rng):
    stats = fidfast.GaussianStats(np.zeros(30), np.eye(30))
    assert fidfast.frechet_terms(stats, rng.standard_normal((400, 30))).note is None


def test_the_number_alone_does_not_warn(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fidfast.fid(rng.standard_normal((24, 30)), rng.standard_normal((24, 30)))
