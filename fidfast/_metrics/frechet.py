"""The Fréchet distance between two sets of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast._inputs import open_stats
from fidfast._results import Result, rounding_text
from fidfast._stats import GaussianStats, on_common_device

__all__ = [
    "FrechetTerms",
    "distance_between",
    "fid",
    "frechet_distance",
    "frechet_terms",
    "terms_between",
    "transport_map",
]


@dataclass(frozen=True)
class FrechetTerms(Result):
    """The terms of a Fréchet distance; returned by `frechet_terms`.

    Dowson & Landau (1982), equation 16. All terms are in squared units of the features.
    """

    #: ``|mu1 - mu2|^2``
    mean_term: float
    #: Trace of the samples' covariance.
    trace_samples: float
    #: Trace of the reference's covariance.
    trace_reference: float
    #: ``tr (sigma1 sigma2)^(1/2)``
    trace_root: float
    #: Number of eigenvalues or singular values summed in `trace_root`.
    rank: int
    #: Bound on the rounding error of `distance`. Roundings of float32 products of features are included as independent
    #: random errors, with four standard deviations (Higham & Mary, 2019); all others in the worst case to first order.
    rounding: float
    #: ``mean_term + trace_samples + trace_reference - 2 trace_root``, never negative.
    distance: float

    def __str__(self) -> str:
        return f"Fréchet distance {self.distance:.8g}, {rounding_text(self.rounding)}"


def frechet_terms(samples: Any, reference: Any, *, precision: str = "float32") -> FrechetTerms:
    """Terms of the Fréchet distance between two Gaussians, with a bound on its rounding error.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        As in `fid`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.

    Returns
    -------
    FrechetTerms

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `fid`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Dowson & Landau (1982), equation 16. The trace of the root is the sum of the square roots of the eigenvalues of the
    symmetric matrix ``F1^T sigma2 F1`` for a factor ``F1 F1^T = sigma1``, or of the singular values of ``F2^T F1`` if a
    covariance is singular or the rounding error of the eigenvalues would be too large.

    The bound on the rounding error includes that of float32 products of features, which `Moments` and `GaussianStats`
    carry as `GaussianStats.product_errors`. It is much larger than with ``precision="float64"``, above all for singular
    or nearly singular covariances.
    """
    return terms_between(*open_stats(samples, reference, precision=precision))


def frechet_distance(samples: Any, reference: Any, *, precision: str = "float32") -> float:
    """Fréchet distance between two Gaussians: ``|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2))``.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        As in `fid`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.

    Returns
    -------
    float
        The squared 2-Wasserstein distance, never negative; in squared units of the features. Symmetric in its
        arguments.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `fid`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.
    """
    return distance_between(*open_stats(samples, reference, precision=precision))


def transport_map(samples: Any, reference: Any, *, precision: str = "float32") -> NDArray[np.float64]:
    """Optimal transport map from the Gaussian of the samples to that of the reference.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        As in `fid`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.

    Returns
    -------
    (dim, dim) ndarray
        The symmetric positive semidefinite ``T`` with ``T sigma_samples T = sigma_reference``; the map is
        ``x -> mu_reference + T (x - mu_samples)``. If the covariance of the samples is singular, the equation holds
        for the part of the reference's covariance that can be reached, and null directions are excluded. ``I - T`` is
        the gradient of the distance with respect to the covariance of the samples.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `fid`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Olkin & Pukelsheim (1982); Knott & Smith (1984).
    """
    source, target = open_stats(samples, reference, precision=precision)
    backend, gaussians, _ = on_common_device(target, source)
    transport: NDArray[np.float64] = backend.transport_map(*gaussians)
    return transport


def fid(features_a: Any, features_b: Any, *, precision: str = "float32") -> float:
    """Fréchet distance between two sets of features (the FID, if the features are those of the 2015 Inception network).

    Parameters
    ----------
    features_a, features_b : array, tensor, Moments, GaussianStats or path
        (n, dim) features in float16, bfloat16, float32 or float64; or their moments or statistics; or a file with any
        of these.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.

    Returns
    -------
    float
        Squared 2-Wasserstein distance between the Gaussians with the unbiased covariances of the two sets.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it.
    FileNotFoundError
        If a path does not exist.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Heusel et al. (2017). The value of a finite sample is biased upwards; compare equal numbers of samples.
    """
    return distance_between(*open_stats(features_a, features_b, ("features_a", "features_b"), precision=precision))


def distance_between(stats1: GaussianStats, stats2: GaussianStats) -> float:
    """Fréchet distance of two statistics of equal dim, without warnings."""
    backend, gaussians, _ = on_common_device(stats1, stats2)
    return float(backend.frechet_distance(*gaussians))


def terms_between(samples: GaussianStats, reference: GaussianStats) -> FrechetTerms:
    """Terms of the Fréchet distance of two statistics of equal dim, without warnings."""
    backend, gaussians, _ = on_common_device(samples, reference)
    terms = backend.frechet_terms(*gaussians)
    return FrechetTerms(
        mean_term=terms.mean_term,
        trace_samples=terms.trace1,
        trace_reference=terms.trace2,
        trace_root=terms.trace_root,
        rank=terms.rank,
        rounding=terms.rounding,
        distance=terms.distance,
    )
