"""Functions of other tools for comparison."""

from __future__ import annotations

import contextlib
import io
import warnings

import numpy as np
import prdc
import torch
from numpy.typing import NDArray

with warnings.catch_warnings():  # raised by the imports themselves
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
    """What its ``calculate_activation_statistics`` does with the features, and its distance."""
    one, two = ((np.mean(rows, axis=0), np.cov(rows, rowvar=False)) for rows in (a, b))
    return pytorch_fid_distance(*one, *two)


class _Features(torch.nn.Module):
    """An extractor that returns its input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.num_features = dim

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def torchmetrics_moments(dim: int) -> torchmetrics.image.fid.FrechetInceptionDistance:
    """Its metric, with its float64 states, which is updated with features."""
    return torchmetrics.image.fid.FrechetInceptionDistance(feature=_Features(dim))


POLYNOMIAL = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1.0,
}


def torch_fidelity_kid(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Its function for one subset, applied to all rows."""
    return float(torch_fidelity.metric_kid.kernel_mmd(samples, reference, **POLYNOMIAL))


def torchmetrics_kid(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Its function for one subset, applied to all rows."""
    return float(torchmetrics.image.kid.poly_mmd(torch.from_numpy(reference), torch.from_numpy(samples)))


KIDS = {"torch-fidelity": torch_fidelity_kid, "torchmetrics": torchmetrics_kid}


def torch_fidelity_kid_of_subsets(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation over 100 subsets of at most 1,000 rows."""
    size = min(1000, len(samples), len(reference))
    options = {"kid_subsets": 100, "kid_subset_size": size, "rng_seed": 2020, "verbose": False, **POLYNOMIAL}
    rows = torch.from_numpy(samples), torch.from_numpy(reference)
    metric = torch_fidelity.metric_kid.kid_features_to_metric(*rows, **options)
    return metric["kernel_inception_distance_mean"], metric["kernel_inception_distance_std"]


def torchmetrics_kid_of_subsets(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> tuple[float, float]:
    """The same, over its own subsets."""
    size = min(1000, len(samples), len(reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it stores all features
        metric = torchmetrics.image.kid.KernelInceptionDistance(_Features(samples.shape[1]), subset_size=size)
    metric.update(torch.from_numpy(reference), real=True)
    metric.update(torch.from_numpy(samples), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2020)
        mean, std = metric.compute()
    return float(mean), float(std)


KIDS_OF_SUBSETS = {"torch-fidelity": torch_fidelity_kid_of_subsets, "torchmetrics": torchmetrics_kid_of_subsets}


def torch_fidelity_precision_recall(
    samples: NDArray[np.float32], reference: NDArray[np.float32], k: int
) -> tuple[float, float]:
    """From complete matrices of distances, the faster of its two functions."""
    rows = torch.from_numpy(samples), torch.from_numpy(reference)
    return torch_fidelity.metric_prc.calculate_precision_recall_full(*rows, k)


def prdc_metrics(
    samples: NDArray[np.float32], reference: NDArray[np.float32], k: int
) -> tuple[float, float, float, float]:
    """Its ``compute_prdc``, without its output on the terminal."""
    with contextlib.redirect_stdout(io.StringIO()):
        shares = prdc.compute_prdc(reference, samples, nearest_k=k)
    return tuple(float(shares[name]) for name in ("precision", "recall", "density", "coverage"))


def torchmetrics_mifid(samples: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """What the ``update`` and ``compute`` of its metric do with features."""
    arguments: list[torch.Tensor] = []
    for features in (reference, samples):
        rows = torch.from_numpy(features).double()
        arguments += [rows.mean(dim=0), torch.cov(rows.t()), rows]
    return float(torchmetrics.image.mifid._mifid_compute(*arguments))
