"""Inception Scores of other tools on the same predictions."""

import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from fidfast import InceptionScore, inception_score

with warnings.catch_warnings():  # raised by the imports themselves
    warnings.simplefilter("ignore")
    import torch_fidelity.metric_isc
    import torchmetrics.image.inception

#: Sums of at most some hundred terms of at most log(30), each rounded to eps = 2e-16, in exp.
CLOSE = 1e-12


def logits_of(rng, n):
    return rng.standard_normal((n, 30)) * 3.0


@pytest.mark.parametrize(
    ("n", "splits", "seed"), [(100, 10, None), (103, 10, 7), (57, 4, 0), (12, 12, None), (9, 1, 3)]
)
def test_torch_fidelity(rng, n, splits, seed):
    logits = logits_of(rng, n).astype(np.float32)
    options = {} if seed is None else {"rng_seed": seed}
    theirs = torch_fidelity.metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits, **options)
    ours = inception_score(logits, splits=splits, seed=seed)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=CLOSE)
    assert ours.std == pytest.approx(theirs["inception_score_std"], abs=CLOSE * ours.mean)


def test_torch_fidelity_without_shuffle_equals_the_tools_that_do_not_shuffle(rng):
    logits = logits_of(rng, 103)
    theirs = torch_fidelity.metric_isc.isc_features_to_metric(torch.from_numpy(logits), 10, shuffle=False)
    stream = InceptionScore(30, length=103)
    for batch in np.array_split(logits, 6):
        stream.update(batch)
    unshuffled = [inception_score(logits, like=tool) for tool in ("improved-gan", "stylegan3")]
    for ours in (*unshuffled, stream.compute()):
        assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=CLOSE)
        assert ours.std == pytest.approx(theirs["inception_score_std"], abs=CLOSE * ours.mean)


@pytest.mark.parametrize("n", [5, 5000, 12003])
def test_guided_diffusion(rng, n):
    """Its rule in float64: the mean over consecutive parts of 5,000 rows, the last one smaller."""
    logits = rng.standard_normal((n, 4)) * 3
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = [p[i : i + 5000] for i in range(0, n, 5000)]
    scores = [np.exp(np.mean(np.sum(part * (np.log(part) - np.log(part.mean(axis=0))), axis=1))) for part in parts]
    stream = InceptionScore(4, split_size=5000)
    for batch in np.array_split(logits, 3):
        stream.update(batch)
    array = inception_score(logits, like="adm")
    assert (array.like, array.seed) == ("adm", None)
    # Means of 5,000 terms of at most log(4), each rounded to eps = 2e-16, in exp.
    for ours in (array, stream.compute()):
        np.testing.assert_allclose(ours.scores, scores, rtol=CLOSE)
        assert ours.mean == pytest.approx(np.mean(scores), rel=CLOSE)


@pytest.mark.parametrize("like", ["torch-fidelity", "torchmetrics", "stylegan3"])
def test_split_size_instead_of_splits(rng, like):
    logits, seed = logits_of(rng, 60), None if like == "stylegan3" else 3
    by_size, by_number = (
        inception_score(logits, like=like, seed=seed, **o) for o in ({"split_size": 15}, {"splits": 4})
    )
    assert by_size == by_number


def torchmetrics_score(logits, splits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it stores all features
        metric = torchmetrics.image.inception.InceptionScore(torch.nn.Identity(), splits=splits)
        metric.update(logits)
        mean, std = metric.compute()
    return float(mean), float(std)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "splits"), [(100, 10), (103, 10), (11, 5), (57, 4), (9, 9)])
def test_torchmetrics(rng, dtype, n, splits):
    logits = torch.from_numpy(logits_of(rng, n)).to(dtype)
    torch.manual_seed(5)
    mean, std = torchmetrics_score(logits, splits)
    torch.manual_seed(5)
    drawn = inception_score(logits, splits=splits, like="torchmetrics")
    seeded = inception_score(logits, splits=splits, like="torchmetrics", seed=5)
    assert drawn == replace(seeded, seed=None)
    # It computes in the type of the logits: sums of 30 n / splits terms of at most log(30).
    close = CLOSE if dtype is torch.float64 else 2e-5
    assert seeded.mean == pytest.approx(mean, rel=close)
    assert seeded.std == pytest.approx(std, abs=close * mean)
    assert len(seeded.scores) == len(torch.arange(n).chunk(splits))


def test_std_of_one_split_of_torchmetrics_is_nan(rng):
    assert np.isnan(inception_score(logits_of(rng, 20), splits=1, like="torchmetrics").std)


def test_seed_does_not_change_the_global_generator_of_torch(rng):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    inception_score(logits_of(rng, 20), like="torchmetrics", seed=9)
    assert torch.equal(torch.rand(3), expected)


def test_torch_is_imported_for_torchmetrics_only():
    code = "import sys, numpy as np, fidfast; fidfast.inception_score(np.eye(10)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
