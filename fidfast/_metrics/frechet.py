"""The Fréchet distance between two sets of features."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast._inputs import as_stats, require_same_dim, warn_of_extractors
from fidfast._stats.gaussian import GaussianStats, together

__all__ = ["FrechetTerms", "fid", "frechet_distance", "frechet_terms", "transport_map"]


class FrechetTerms(NamedTuple):
    """What a Fréchet distance is made of."""

    #: ``|mu1 - mu2|^2``
    mean_term: float
    #: ``tr sigma1``
    trace1: float
    #: ``tr sigma2``
    trace2: float
    #: ``tr (sigma1 sigma2)^(1/2)``
    trace_root: float
    #: Number of eigenvalues or singular values summed in `trace_root`.
    rank: int
    #: Bound on the rounding error of `distance`.
    rounding: float
    #: ``mean_term + trace1 + trace2 - 2 trace_root``, never negative.
    distance: float


def frechet_terms(stats1: GaussianStats, stats2: GaussianStats) -> FrechetTerms:
    """Fréchet distance between two Gaussians, in its terms and with a bound on its rounding error.

    Parameters
    ----------
    stats1, stats2 : GaussianStats
        Of the same ``dim``.

    Returns
    -------
    FrechetTerms

    Raises
    ------
    ValueError
        If the dims differ.

    Warns
    -----
    UserWarning
        If the statistics come from different extractors.

    Notes
    -----
    Dowson & Landau (1982), equation 16. The trace of the root is the sum of the square roots of the eigenvalues of
    the symmetric matrix ``F1^T sigma2 F1`` for a factor ``F1 F1^T = sigma1``, or of the singular values of
    ``F2^T F1`` where a covariance is singular or the rounding of the eigenvalues would show.
    """
    require_same_dim(stats1.dim, stats2.dim, "stats1", "stats2")
    warn_of_extractors(stats1, stats2, stacklevel=3)
    module, gaussians, _ = together(stats1, stats2)
    terms = module.frechet_terms(*gaussians)
    return FrechetTerms(*(getattr(terms, field) for field in FrechetTerms._fields))


def frechet_distance(stats1: GaussianStats, stats2: GaussianStats) -> float:
    """Fréchet distance between two Gaussians: ``|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2))``.

    Parameters
    ----------
    stats1, stats2 : GaussianStats
        Of the same ``dim``.

    Returns
    -------
    float
        The squared 2-Wasserstein distance, never negative; in squared units of the features. Symmetric in its
        arguments.

    Raises
    ------
    ValueError
        If the dims differ.

    Warns
    -----
    UserWarning
        If the statistics come from different extractors.
    """
    require_same_dim(stats1.dim, stats2.dim, "stats1", "stats2")
    warn_of_extractors(stats1, stats2, stacklevel=3)
    return distance_between(stats1, stats2)


def transport_map(stats1: GaussianStats, stats2: GaussianStats) -> NDArray[np.float64]:
    """Optimal transport map that carries the second Gaussian onto the first.

    Parameters
    ----------
    stats1, stats2 : GaussianStats
        Of the same ``dim``.

    Returns
    -------
    (dim, dim) ndarray
        The symmetric positive semidefinite ``T`` with ``T sigma2 T = sigma1``; the map is
        ``x -> mu1 + T (x - mu2)``. Where `sigma2` is singular, the equation holds for the part of `sigma1` that can
        be reached, and null directions are left out. ``I - T`` is the gradient of the distance with respect to
        `sigma2`.

    Raises
    ------
    ValueError
        If the dims differ.

    Notes
    -----
    Olkin & Pukelsheim (1982); Knott & Smith (1984).
    """
    require_same_dim(stats1.dim, stats2.dim, "stats1", "stats2")
    module, gaussians, _ = together(stats1, stats2)
    transport: NDArray[np.float64] = module.transport_map(*gaussians)
    return transport


def fid(features_a: Any, features_b: Any, *, precision: str = "float32") -> float:
    """Fréchet distance between two sets of features (the FID, when they are the 2015 Inception network's).

    Parameters
    ----------
    features_a, features_b : array, tensor, Moments, GaussianStats or path
        (n, dim) features in float16, bfloat16, float32 or float64; or their statistics; or a file with either.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for arrays and files of features.

    Returns
    -------
    float
        Squared 2-Wasserstein distance between the Gaussians with the unbiased covariances of the two sets.

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the statistics come from different extractors.

    Notes
    -----
    Heusel et al. (2017). The value of a finite sample is biased upwards; compare equal numbers of samples.
    """
    stats_a = as_stats(features_a, "features_a", precision)
    stats_b = as_stats(features_b, "features_b", precision)
    require_same_dim(stats_a.dim, stats_b.dim, "features_a", "features_b")
    warn_of_extractors(stats_a, stats_b, stacklevel=3)
    return distance_between(stats_a, stats_b)


def distance_between(stats1: GaussianStats, stats2: GaussianStats) -> float:
    """`frechet_distance` of what is known to fit."""
    module, gaussians, _ = together(stats1, stats2)
    return float(module.frechet_distance(*gaussians))
