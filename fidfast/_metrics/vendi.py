"""The Vendi score, the effective number of different samples in a set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import optional, require_choice, require_real
from fidfast._inputs import Input, open_input
from fidfast._results import Result
from fidfast._stats import NEGATIVE_TOLERANCE

__all__ = ["VendiScore", "vendi"]

Array = NDArray[np.float64]

KERNELS = ("cosine", "linear", "gaussian", "precomputed")

#: By how much the mean squared norm of rows may differ from 1: those of rows in bfloat16 differ by less.
_NORM_TOLERANCE = 0.01

#: By how much entries of a kernel matrix may differ: more than the rounding to float16.
_KERNEL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class VendiScore(Result):
    """The effective number of different samples; returned by `vendi`. ``float(result)`` is the value.

    Friedman & Dieng (2023), definition 3.1; for other orders Pasarkar & Dieng (2024), equation 2.
    """

    #: From 1 (all samples are equal) to `num_samples` (no two of them are similar).
    value: float
    #: Number of samples.
    num_samples: int
    #: Order of the entropy.
    q: float
    #: Name of the kernel.
    kernel: str

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        order = "" if self.q == 1 else f" of order {self.q:g}"
        return f"{self.value:.6g}{order}, of {self.num_samples:,} samples"


def vendi(samples: Any, *, q: float | str = 1.0, kernel: str = "cosine", sigma: float | None = None) -> VendiScore:
    """Vendi score: the effective number of different samples in a set, a measure of diversity without a reference.

    Parameters
    ----------
    samples : array, tensor or path
        (n, dim) features in float16, bfloat16, float32 or float64, or a file of features (an ``.npy`` is read block by
        block). With ``kernel="linear"`` also `Moments` of rows of unit norm, of a stream.
    q : float, default 1
        Order of the entropy, at least 0: 1 is that of Shannon, ``math.inf`` (or "inf") that of the largest eigenvalue.
        Low orders weigh rare kinds of samples more. 0 counts the eigenvalues above rounding: the rank.
    kernel : {"cosine", "linear", "gaussian", "precomputed"}, default "cosine"
        - "cosine": ``x.y / (|x| |y|)``, the package's default (``score_X`` and ``score_dual``);
        - "linear": ``x.y`` of rows that have unit norm (``normalize=False``);
        - "gaussian": ``exp(-|x - y|^2 / (2 sigma^2))``;
        - "precomputed": `samples` is the (n, n) matrix of any positive semidefinite kernel with 1 on its diagonal
          (``score_K``).
    sigma : float, optional
        Width of the Gaussian kernel, which needs it; in units of the features.

    Returns
    -------
    VendiScore

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it. A row of zeros has no cosine; rows of a linear kernel must
        have unit norm.
    FileNotFoundError
        If a path does not exist.

    Notes
    -----
    Friedman & Dieng, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning" (2023), definition 3.1:
    ``exp(-sum(l log l))`` of the eigenvalues ``l`` of ``K / n``, computed in float64. Eigenvalues within rounding (n or
    dim times 2.2e-16 of the largest) count as 0. The other orders are ``sum(l^q)^(1 / (1 - q))``.

    For the kernels "cosine" and "linear" these are the eigenvalues of the second moment ``X^T X / n`` as well, and the
    smaller of both matrices is used. So the memory for many rows is one slice of them and ``8 dim^2`` bytes. The other
    kernels need ``16 n^2`` bytes.

    The score grows with n, so compare sets of equal size. It has no error bar: its bias is not known from one set.

    Examples
    --------
    >>> import numpy as np
    >>> round(vendi(np.eye(4)).value, 9), round(vendi(np.ones((4, 3))).value, 9)
    (4.0, 1.0)
    """
    q = math.inf if isinstance(q, str) and q == "inf" else q
    q = require_real("q", q, lambda order: order >= 0, "at least 0")
    kernel = str(require_choice("kernel", kernel, KERNELS))
    sigma = optional(require_real, "sigma", sigma, lambda width: 0 < width < math.inf, "positive and finite")
    if (sigma is None) == (kernel == "gaussian"):
        raise ValueError(
            "sigma must be given for kernel='gaussian'" if sigma is None else f"sigma has no meaning for {kernel=}"
        )
    source = open_input(samples, "samples", rows=True)
    matrix, n = _matrix(source, kernel, sigma)
    return VendiScore(_effective_number(_core.eigenvalues(matrix), q), n, q, kernel)


def _matrix(source: Input, kernel: str, sigma: float | None) -> tuple[Array, int]:
    """A matrix with the nonzero eigenvalues of ``K / n``, and n."""
    if kernel == "linear" and source.moments is not None and source.rows is None:
        if source.moments.num_samples < 2:
            raise ValueError(f"samples: vendi needs Moments of at least 2 rows, got {source.moments.num_samples}")
        stats = source.stats_with(ddof=0)
        matrix = stats.sigma + np.outer(stats.mu, stats.mu)
        _require_unit_norm(float(np.trace(matrix)))
        return matrix, source.moments.num_samples
    source.require_rows("vendi")
    n, dim = source.finite_shape()
    if n == 0:
        raise ValueError("samples: vendi needs at least 1 row, got 0")
    if kernel == "precomputed":
        return _given_kernel(np.concatenate(list(source.float64_slices()))) / n, n
    if kernel == "gaussian":
        assert sigma is not None
        return _gaussian_kernel(np.concatenate(list(source.float64_slices())), sigma) / n, n
    slices = map(_directions, source.float64_slices()) if kernel == "cosine" else source.float64_slices()
    if n <= dim:
        rows = np.concatenate(list(slices))
        matrix = rows @ rows.T
    else:
        matrix = np.zeros((dim, dim))
        for rows in slices:
            matrix += rows.T @ rows
    with np.errstate(over="ignore", invalid="ignore"):
        _require_unit_norm(float(np.trace(matrix)) / n)
    return matrix / n, n


def _directions(rows: Array) -> Array:
    """The rows divided by their norms, whatever their scale."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not largest.all():
        raise ValueError("samples: a row holds only zeros, which have no cosine with others; leave such rows out")
    rows = np.ldexp(rows, -np.frexp(largest)[1])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _require_unit_norm(mean_square: float) -> None:
    if not abs(mean_square - 1) <= _NORM_TOLERANCE:
        raise ValueError(
            f"samples: kernel='linear' needs rows of norm 1, and their mean squared norm is {mean_square:.6g}; "
            "kernel='cosine' divides them by their norms"
        )


def _given_kernel(matrix: Array) -> Array:
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"samples: kernel='precomputed' needs a square matrix (n, n), got shape {matrix.shape}")
    if not np.abs(matrix.diagonal() - 1).max() <= _KERNEL_TOLERANCE:
        raise ValueError("samples: a precomputed kernel must have 1 on its diagonal; divide by sqrt(k(x, x) k(y, y))")
    with np.errstate(over="ignore"):
        if not np.abs(matrix - matrix.T).max() <= _KERNEL_TOLERANCE:
            raise ValueError("samples: a precomputed kernel must be symmetric")
    return (matrix + matrix.T) / 2


def _gaussian_kernel(rows: Array, sigma: float) -> Array:
    largest = float(np.abs(rows).max(initial=0.0)) or 1.0
    rows = rows / largest
    rows -= rows.mean(axis=0)
    squares = np.einsum("ij,ij->i", rows, rows)
    distances = np.maximum(squares[:, None] + squares - 2 * (rows @ rows.T), 0)
    # Rows farther apart than float64 can square are not similar at all.
    kernel = np.exp(distances * (-0.5 * min(largest / sigma, 1e150) ** 2))
    np.fill_diagonal(kernel, 1.0)
    return np.asarray(kernel)


def _effective_number(values: Array, q: float) -> float:
    """The exponential of the entropy of order q, from the eigenvalues in ascending order."""
    if values[0] < -max(NEGATIVE_TOLERANCE, len(values) * np.finfo(float).eps) * values[-1]:
        raise ValueError(
            f"samples: the kernel is not positive semidefinite (eigenvalues of K / n from {values[0]:.3g} to "
            f"{values[-1]:.3g}); if that is rounding, compute the kernel in float32 or float64"
        )
    shares = values[values > len(values) * np.finfo(float).eps * values[-1]]
    shares = shares / shares.sum()
    logarithms = np.log(shares)
    if q == 0:
        return float(len(shares))
    if q == 1:
        return math.exp(-float(shares @ logarithms))
    if q == math.inf:
        return 1 / float(shares[-1])
    if abs(q - 1) < 0.5:  # without the difference of the sum from 1
        return math.exp(math.log1p(float(shares @ np.expm1((q - 1) * logarithms))) / (1 - q))
    with np.errstate(over="ignore"):
        rest = math.log(float(np.exp(q * (logarithms - logarithms[-1])).sum()))
    return math.exp(q / (1 - q) * float(logarithms[-1]) + rest / (1 - q))
