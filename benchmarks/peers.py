"""The tools that are measured against: their own functions, called and not copied."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import prdc
import torch
from numpy.typing import NDArray

with warnings.catch_warnings():  # what the peers' imports say is not ours to mend
    warnings.simplefilter("ignore")
    import pytorch_fid.fid_score
    import torch_fidelity.metric_fid
    import torch_fidelity.metric_kid
    import torch_fidelity.metric_prc
    import torchmetrics.image.fid
    import torchmetrics.image.kid
    import torchmetrics.image.mifid

Array = NDArray[np.float64]


def pytorch_fid_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """SciPy's ``sqrtm`` of the product."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(pytorch_fid.fid_score.calculate_frechet_distance(mu1, sigma1, mu2, sigma2))


def torch_fidelity_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """``numpy.linalg.eigvals`` of the product."""
    one, two = {"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2}
    metric = torch_fidelity.metric_fid.fid_statistics_to_metric(one, two, False)
    return float(metric["frechet_inception_distance"])


def torchmetrics_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """``torch.linalg.eigvals`` of the product."""
    return float(torchmetrics.image.fid._compute_fid(*map(torch.from_numpy, (mu1, sigma1, mu2, sigma2))))


DISTANCES = {
    "pytorch-fid": pytorch_fid_distance,
    "torch-fidelity": torch_fidelity_distance,
    "torchmetrics": torchmetrics_distance,
}


def pytorch_fid_of_features(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """As its ``calculate_activation_statistics`` does with the activations, then its distance."""
    one, two = ((np.mean(rows, axis=0), np.cov(rows, rowvar=False)) for rows in (a, b))
    return pytorch_fid_distance(*one, *two)


class _Features(torch.nn.Module):
    """An extractor whose images are the features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def torchmetrics_moments(dim: int) -> torchmetrics.image.fid.FrechetInceptionDistance:
    """Its metric, with float64 states as it makes them, fed with features."""
    return torchmetrics.image.fid.FrechetInceptionDistance(feature=_Features(dim))


POLYNOMIAL = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1.0,
}


def torch_fidelity_kid(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Its function of one subset, given the whole sets."""
    return float(torch_fidelity.metric_kid.kernel_mmd(a, b, **POLYNOMIAL))


def torchmetrics_kid(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """The same."""
    return float(torchmetrics.image.kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))


WHOLE_KIDS = {"torch-fidelity": torch_fidelity_kid, "torchmetrics": torchmetrics_kid}


def torch_fidelity_kid_of_subsets(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation over 100 subsets of at most 1,000 rows."""
    size = min(1000, len(a), len(b))
    options = {"kid_subsets": 100, "kid_subset_size": size, "rng_seed": 2020, "verbose": False, **POLYNOMIAL}
    metric = torch_fidelity.metric_kid.kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **options)
    return metric["kernel_inception_distance_mean"], metric["kernel_inception_distance_std"]


def torchmetrics_kid_of_subsets(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[float, float]:
    """The same, with its own subsets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps all features
        metric = torchmetrics.image.kid.KernelInceptionDistance(
            feature=_Features(a.shape[1]), subset_size=min(1000, len(a), len(b))
        )
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2020)
        mean, std = metric.compute()
    return float(mean), float(std)


SUBSET_KIDS = {"torch-fidelity": torch_fidelity_kid_of_subsets, "torchmetrics": torchmetrics_kid_of_subsets}


def torch_fidelity_precision_recall(
    reference: NDArray[np.float32], generated: NDArray[np.float32], k: int
) -> tuple[float, float]:
    """From whole matrices of distances, the faster of its two ways."""
    rows = torch.from_numpy(generated), torch.from_numpy(reference)
    return torch_fidelity.metric_prc.calculate_precision_recall_full(*rows, k)


def prdc_metrics(
    reference: NDArray[np.float32], generated: NDArray[np.float32], k: int
) -> tuple[float, float, float, float]:
    """Its ``compute_prdc``, all four at once, without what it prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        shares = prdc.compute_prdc(reference, generated, nearest_k=k)
    return tuple(float(shares[name]) for name in ("precision", "recall", "density", "coverage"))


def torchmetrics_mifid(reference: NDArray[np.float32], generated: NDArray[np.float32]) -> float:
    """As the ``update`` and ``compute`` of its metric do with the features."""
    sides: list[torch.Tensor] = []
    for features in (reference, generated):
        rows = torch.from_numpy(features).double()
        sides += [rows.mean(dim=0), torch.cov(rows.t()), rows]
    return float(torchmetrics.image.mifid._mifid_compute(*sides))
