"""The Fréchet distance with the arguments of pytorch-fid."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fidfast._arguments import as_array, as_dense, require_real
from fidfast._devices import to_host
from fidfast._errors import with_message
from fidfast._metrics.frechet import frechet_distance
from fidfast._stats import GaussianStats

__all__ = ["calculate_frechet_distance"]


def calculate_frechet_distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any, eps: float = 1e-6) -> float:
    """Fréchet distance of two Gaussians, with the arguments of ``pytorch_fid.fid_score.calculate_frechet_distance``.

    Parameters
    ----------
    mu1, mu2 : (dim,) array_like
        Means. A number is a mean of dim 1.
    sigma1, sigma2 : (dim, dim) array_like
        Covariances.
    eps : float, default 1e-6
        Not used: nothing is added to a singular covariance.

    Returns
    -------
    float
        The squared distance in squared units of the features, a ``numpy.float64`` as in pytorch-fid; never negative,
        and 0 for equal arguments.

    Raises
    ------
    AssertionError
        If the shapes of the means, or of the covariances, differ.
    TypeError, ValueError
        If an argument is not numeric, contains NaN or infinity, or is not a covariance: differs from its transpose, or
        has negative eigenvalues of more than 1e-6 of the largest.

    Notes
    -----
    Dowson & Landau (1982), equation 16. pytorch-fid and the projects that copied the function call
    ``scipy.linalg.sqrtm(..., disp=False)``, which SciPy 1.18 rejects. The result differs from theirs by the error of
    ``sqrtm``: about 1e-12 of the traces, and 1e-8 for singular covariances (README, "Accuracy").
    """
    require_real("eps", eps)
    means = [np.atleast_1d(_numbers(name, value)) for name, value in (("mu1", mu1), ("mu2", mu2))]
    covariances = [np.atleast_2d(_numbers(name, value)) for name, value in (("sigma1", sigma1), ("sigma2", sigma2))]
    for what, names, (one, two) in (
        ("mean vectors have different lengths", ("mu1", "mu2"), means),
        ("covariances have different dimensions", ("sigma1", "sigma2"), covariances),
    ):
        if one.shape != two.shape:
            shapes = f"{names[0]} has shape {one.shape}, {names[1]} has shape {two.shape}"
            raise AssertionError(f"Training and test {what}: {shapes}")
    stats = []
    for i in range(2):
        try:
            stats.append(GaussianStats(means[i], covariances[i]))
        except (TypeError, ValueError) as error:
            arguments = f"mu{i + 1}, sigma{i + 1}"
            # negative_tolerance is not an argument of this function.
            hint = f"fidfast.GaussianStats({arguments}, negative_tolerance="
            message = re.sub(r"negative_tolerance=(\S+)", rf"fidfast.fid with {hint}\1)", str(error))
            raise with_message(error, f"{arguments}: {message}") from error
    return np.float64(frechet_distance(*stats))


def _numbers(name: str, value: Any) -> np.ndarray[Any, Any]:
    """The argument as a float64 array."""
    array = as_array(name, to_host(as_dense(value, name)), "an array of real numbers")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)
