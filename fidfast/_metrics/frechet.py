"""The Fréchet distance between two sets of features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fidfast._inputs import Input, open_pair, require_same_dim
from fidfast._metrics.scale import in_units, inputs_in_range
from fidfast._results import Result, distance_text, rounding_text, too_few_samples
from fidfast._stats import NEGATIVE_TOLERANCE, GaussianStats, explain_overflow, on_common_device

__all__ = [
    "FrechetTerms",
    "distance_between",
    "distance_of_inputs",
    "frechet_distance",
    "frechet_terms",
    "terms_between",
    "transport_map",
]


_T = TypeVar("_T")

#: A distance above it has all its digits.
_ACCURATE = 2.0**-800


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
    #: Bound on the difference between `distance` and the exact distance of the rows, or of `mu` and `sigma` if their
    #: number of samples is unknown. Roundings of float32 products of features are included as independent random
    #: errors, with four standard deviations (Higham & Mary, 2019); all others in the worst case up to dim 32.
    rounding: float
    #: ``mean_term + trace_samples + trace_reference - 2 trace_root``, never negative or NaN.
    distance: float
    #: `GaussianStats.least_eigenvalue` of samples and reference.
    least_eigenvalues: tuple[float, float] = (0.0, 0.0)
    #: `GaussianStats.dropped_trace` of samples and reference.
    dropped_traces: tuple[float, float] = (0.0, 0.0)
    #: Why the distance means little: a side has at most `dim` samples. None if it has more, or their number is unknown.
    note: str | None = None
    #: What was dropped from a covariance that is not positive semidefinite by more than 1e-6, or None.
    caution: str | None = None
    #: By argument: what was used of a file that holds more, for example "statistics (the file also holds 12 images)".
    used: Mapping[str, str] = field(default_factory=dict, kw_only=True)

    @property
    def distance_text(self) -> str:
        """`distance` with 8 digits, or with 3 if there is a note."""
        return distance_text(self.distance, self.note is not None)

    def __str__(self) -> str:
        text = f"Fréchet distance {self.distance_text}, {rounding_text(self.rounding)}"
        used = (f"{name}: {what}" for name, what in self.used.items())
        return "; ".join(part for part in (text, self.note, self.caution, *used) if part is not None)


def frechet_terms(
    samples: Any, reference: Any, *, precision: str = "float32", negative_tolerance: float = NEGATIVE_TOLERANCE
) -> FrechetTerms:
    """Terms of the Fréchet distance between two Gaussians, with a bound on its rounding error.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        Features, or their moments or statistics, as in `fid`; not images.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for files of statistics.

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
    given = open_pair(samples, reference, precision=precision, rows=False, negative_tolerance=negative_tolerance)
    terms, exponent = _in_range(terms_between, *given, lambda found: found.distance)
    terms = replace(terms, used={side.name: side.note for side in given if side.note is not None})
    if exponent == 0:
        return terms
    scaled: dict[str, Any] = {
        name: in_units(getattr(terms, name), exponent, given, may_vanish=name != "distance")
        for name in ("mean_term", "trace_samples", "trace_reference", "trace_root", "rounding", "distance")
    }
    for name in ("least_eigenvalues", "dropped_traces"):
        scaled[name] = tuple(in_units(np.array(getattr(terms, name)), exponent, given, may_vanish=True).tolist())
    scaled["rounding"] += math.ulp(0.0)  # subnormal results
    return replace(terms, **scaled)


def frechet_distance(
    samples: Any, reference: Any, *, precision: str = "float32", negative_tolerance: float = NEGATIVE_TOLERANCE
) -> float:
    """Fréchet distance between two Gaussians: ``|mu1 - mu2|^2 + tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2))``.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        As in `fid`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for files of statistics.

    Returns
    -------
    float
        The squared 2-Wasserstein distance, in squared units of the features; never negative, 0 for equal statistics,
        and symmetric in its arguments.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `fid`.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.
    """
    return distance_of_inputs(
        *open_pair(samples, reference, precision=precision, rows=False, negative_tolerance=negative_tolerance)
    )


def transport_map(
    samples: Any, reference: Any, *, precision: str = "float32", negative_tolerance: float = NEGATIVE_TOLERANCE
) -> NDArray[np.float64]:
    """Optimal transport map from the Gaussian of the samples to that of the reference.

    Parameters
    ----------
    samples, reference : array, tensor, Moments, GaussianStats or path
        As in `fid`.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for files of statistics.

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
    given = open_pair(samples, reference, precision=precision, rows=False, negative_tolerance=negative_tolerance)
    # Each side in a unit of its own: T has the unit of the reference divided by that of the samples.
    ((one,), exponent1), ((two,), exponent2) = (inputs_in_range(source) for source in given)
    require_same_dim(one.dim, two.dim, one.name, two.name)
    backend, gaussians, _ = on_common_device(two.stats, one.stats)
    with explain_overflow(one.stats, two.stats):
        transport: NDArray[np.float64] = backend.transport_map(*gaussians)
    if exponent1 == exponent2:
        return transport
    with np.errstate(over="ignore"):
        transport = np.ldexp(transport, exponent2 - exponent1)
    if not np.isfinite(transport).all():
        raise ValueError(f"{one.name}: the transport map is too large for float64: multiply the features by a factor")
    return transport


def distance_of_inputs(samples: Input, reference: Input) -> float:
    """Fréchet distance of two inputs; features may have variances beyond the range of float64.

    Raises
    ------
    ValueError
        If the dims differ, or float64 cannot represent the distance.
    """
    distance, exponent = _in_range(distance_between, samples, reference, float)
    return in_units(distance, exponent, (samples, reference))


def _in_range(
    compute: Callable[[GaussianStats, GaussianStats], _T],
    samples: Input,
    reference: Input,
    distance_of: Callable[[_T], float],
) -> tuple[_T, int]:
    """A result in the squared unit ``4^exponent``, and the exponent: 0 unless the result needs another unit."""

    def result_of(one: Input, two: Input) -> _T:
        require_same_dim(one.dim, two.dim, one.name, two.name)
        return compute(one.stats, two.stats)

    try:
        result = result_of(samples, reference)
    except ValueError:
        scaled, exponent = inputs_in_range(samples, reference)
        if exponent == 0:
            raise
        return result_of(*scaled), exponent
    if distance_of(result) >= _ACCURATE:
        return result, 0
    scaled, exponent = inputs_in_range(samples, reference)
    return (result, 0) if exponent == 0 else (result_of(*scaled), exponent)


def distance_between(stats1: GaussianStats, stats2: GaussianStats) -> float:
    """Fréchet distance of two statistics of equal dim, without warnings."""
    backend, gaussians, _ = on_common_device(stats1, stats2)
    with explain_overflow(stats1, stats2):
        return float(backend.frechet_distance(*gaussians))


def terms_between(samples: GaussianStats, reference: GaussianStats) -> FrechetTerms:
    """Terms of the Fréchet distance of two statistics of equal dim, without warnings."""
    backend, gaussians, _ = on_common_device(samples, reference)
    with explain_overflow(samples, reference):
        terms = backend.frechet_terms(*gaussians)
    sides = (("samples", samples), ("reference", reference))
    cautions = [f"{name}: {stats.caution}" for name, stats in sides if stats.caution is not None]
    return FrechetTerms(
        mean_term=terms.mean_term,
        trace_samples=terms.trace1,
        trace_reference=terms.trace2,
        trace_root=terms.trace_root,
        rank=terms.rank,
        rounding=terms.rounding,
        distance=terms.distance,
        least_eigenvalues=(samples.least_eigenvalue, reference.least_eigenvalue),
        dropped_traces=(samples.dropped_trace, reference.dropped_trace),
        note=too_few_samples(samples.dim, samples.num_samples, reference.num_samples),
        caution="; ".join(cautions) or None,
    )
