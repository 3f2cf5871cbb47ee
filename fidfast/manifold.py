"""Metrics of nearest neighbours: precision and recall, density and coverage, memorization-informed FID."""

from __future__ import annotations

import operator
import os
import warnings
from typing import Any, NamedTuple

from fidfast import _core, devices, formats
from fidfast.frechet import frechet_distance
from fidfast.gaussian import GaussianStats
from fidfast.moments import Moments

__all__ = [
    "DensityCoverage",
    "ManifoldMetrics",
    "PrecisionRecall",
    "density_coverage",
    "manifold_metrics",
    "mifid",
    "precision_recall",
]


class PrecisionRecall(NamedTuple):
    """Shares of samples that lie within the other set's manifold."""

    #: Share of the generated samples that lie in a ball around a reference sample.
    precision: float
    #: Share of the reference samples that lie in a ball around a generated sample.
    recall: float


class DensityCoverage(NamedTuple):
    """How the generated samples fill the balls around the reference samples."""

    #: Mean number of reference samples' balls that hold a generated sample, over k; may exceed 1.
    density: float
    #: Share of the reference samples whose ball holds a generated sample.
    coverage: float


class ManifoldMetrics(NamedTuple):
    """`PrecisionRecall` and `DensityCoverage` of the same two sets."""

    #: Share of the generated samples that lie in a ball around a reference sample.
    precision: float
    #: Share of the reference samples that lie in a ball around a generated sample.
    recall: float
    #: Mean number of reference samples' balls that hold a generated sample, over k; may exceed 1.
    density: float
    #: Share of the reference samples whose ball holds a generated sample.
    coverage: float


def precision_recall(reference: Any, generated: Any, k: int = 3, *, inclusive: bool = True) -> PrecisionRecall:
    """Improved precision and recall: the share of each set that lies within the other's manifold.

    The manifold of a set is the union of balls around its samples, each out to the sample's `k`-th nearest neighbour
    in the set, the sample itself not counted.

    Parameters
    ----------
    reference : array, tensor or path
        (n, dim) features of real data in float16, bfloat16, float32 or float64, or a file of them.
    generated : array, tensor or path
        (m, dim) features of the model's samples.
    k : int, default 3
        Which neighbour bounds a ball; below `n` and `m`.
    inclusive : bool, default True
        Whether a sample at exactly the radius lies in the ball: True as in the paper, its authors' code and
        torch-fidelity, False as in prdc. It matters where samples repeat.

    Returns
    -------
    PrecisionRecall

    Raises
    ------
    TypeError, ValueError
        If an argument is not usable; the message names it. Statistics do not serve: neighbours need the features.
    FileNotFoundError
        If a path leads nowhere.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    Kynkäänniemi et al. (2019), equations 1 and 2. The counts are those of distances in float64, ties and repeated
    samples included, for any type of the features; memory does not grow with the number of pairs.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.arange(8.0).reshape(8, 1)
    >>> precision_recall(reference, reference[:4] + 0.25, k=1)
    PrecisionRecall(precision=1.0, recall=0.625)
    """
    (shares,) = _shares(reference, generated, [(k, inclusive, True)])
    return PrecisionRecall(shares.precision, shares.recall)


def density_coverage(reference: Any, generated: Any, k: int = 5, *, inclusive: bool = False) -> DensityCoverage:
    """Density and coverage: how many reference balls hold a generated sample, and the share of balls that hold one.

    A ball lies around every reference sample, out to its `k`-th nearest neighbour in the reference set, the sample
    itself not counted.

    Parameters
    ----------
    reference : array, tensor or path
        (n, dim) features of real data in float16, bfloat16, float32 or float64, or a file of them.
    generated : array, tensor or path
        (m, dim) features of the model's samples.
    k : int, default 5
        Which neighbour bounds a ball; below `n`.
    inclusive : bool, default False
        Whether a sample at exactly the radius lies in the ball: False as in prdc, the authors' code.

    Returns
    -------
    DensityCoverage

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `precision_recall`.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    Naeem et al. (2020), equations 2 and 3. Exact as `precision_recall` is.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.arange(8.0).reshape(8, 1)
    >>> density_coverage(reference, reference[:4] + 0.25, k=1)
    DensityCoverage(density=2.0, coverage=0.625)
    """
    (shares,) = _shares(reference, generated, [(k, inclusive, False)])
    return DensityCoverage(shares.density, shares.coverage)


def manifold_metrics(
    reference: Any, generated: Any, k: int | None = None, *, inclusive: bool | None = None
) -> ManifoldMetrics:
    """Precision, recall, density and coverage in one pass over the pairs of samples.

    Parameters
    ----------
    reference : array, tensor or path
        (n, dim) features of real data in float16, bfloat16, float32 or float64, or a file of them.
    generated : array, tensor or path
        (m, dim) features of the model's samples.
    k : int, optional
        Which neighbour bounds a ball, for all four; by default 3 for precision and recall, 5 for density and
        coverage, as for the functions of those names.
    inclusive : bool, optional
        Whether a sample at exactly the radius lies in the ball, for all four; by default True for precision and
        recall, False for density and coverage. ``k=5, inclusive=False`` gives the numbers of prdc's ``compute_prdc``.

    Returns
    -------
    ManifoldMetrics

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `precision_recall`.

    Warns
    -----
    UserWarning
        If the features come from different extractors.
    """
    one = (3 if k is None else k, True if inclusive is None else inclusive, True)
    two = (5 if k is None else k, False if inclusive is None else inclusive, False)
    manifold, balls = _shares(reference, generated, [one, two])
    return ManifoldMetrics(manifold.precision, manifold.recall, balls.density, balls.coverage)


def mifid(
    generated: Any,
    reference: Any,
    *,
    mean_over: str = "generated",
    threshold: float = 0.1,
    precision: str = "float32",
) -> float:
    """Memorization-informed Fréchet distance: the distance, made larger where samples are near copies.

    Parameters
    ----------
    generated : array, tensor or path
        (m, dim) features of the model's samples in float16, bfloat16, float32 or float64, or a file of them.
    reference : array, tensor or path
        (n, dim) features of the training data.
    mean_over : {"generated", "reference"}, default "generated"
        Whose cosine distances to the nearest sample of the other set are averaged: "generated" as in the paper, so
        that copies of training data are found; "reference" as in torchmetrics.
    threshold : float, default 0.1
        A mean cosine distance of at least this counts as no memorization; above 0, at most 1.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for the Fréchet distance. The cosines are those of float64.

    Returns
    -------
    float
        ``fid / (d + 1e-14)`` with the mean distance ``d`` where that is below the threshold, else 1; 0 where the
        Fréchet distance is at most 1e-8.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `precision_recall`; also where all features of a set are zero.

    Warns
    -----
    UserWarning
        If the features come from different extractors.

    Notes
    -----
    Bai et al. (2021). The cosine distance is ``1 - |cos|``, of features that are not centred. Samples whose features
    are all zero have no direction and are left out of ``d``; torchmetrics leaves out those whose features add up to
    zero.
    """
    if mean_over not in ("generated", "reference"):
        raise ValueError(f"mean_over must be 'generated' or 'reference', got {mean_over!r}")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    of_reference, of_generated = _read(reference, "reference"), _read(generated, "generated")
    _warn_of_extractors(of_reference, of_generated, stacklevel=3)
    distance = _core.mean_nearest_cosine_distance(
        of_generated.features, of_reference.features, mean_over == "generated"
    )
    fid = frechet_distance(_stats(of_generated, "generated", precision), _stats(of_reference, "reference", precision))
    if fid <= 1e-8:
        return 0.0
    return fid / ((distance if distance < threshold else 1.0) + 1e-14)


def _shares(reference: Any, generated: Any, rules: list[tuple[int, bool, bool]]) -> list[ManifoldMetrics]:
    """For each rule of (k, inclusive, whether recall is wanted)."""
    of_reference, of_generated = _read(reference, "reference"), _read(generated, "generated")
    _warn_of_extractors(of_reference, of_generated, stacklevel=4)
    checked = [(operator.index(k), bool(inclusive), recall) for k, inclusive, recall in rules]
    shares = _core.manifold_metrics(of_generated.features, of_reference.features, checked)
    return [ManifoldMetrics(*of_rule) for of_rule in shares]


def _read(source: Any, name: str) -> formats.Features:
    """The features themselves, of an array or a file; errors name the argument."""
    if isinstance(source, (Moments, GaussianStats)):
        raise TypeError(f"{name}: {type(source).__name__} do not hold the features, which neighbours are found among")
    if not isinstance(source, (str, os.PathLike)):
        return formats.Features(devices.on_host(source))
    try:
        content = formats.read(source)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not isinstance(content, formats.Features):
        raise ValueError(
            f"{name}: {os.fspath(source)} holds {content.what}, not features, which neighbours are found among"
        )
    return content


def _stats(features: formats.Features, name: str, precision: str) -> GaussianStats:
    try:
        return Moments._of_features(features.features, precision).stats()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _warn_of_extractors(reference: formats.Features, generated: formats.Features, stacklevel: int) -> None:
    one, two = reference.extractor, generated.extractor
    if one and two and one.split("/")[0] != two.split("/")[0]:
        message = f"the features come from different extractors, {one!r} and {two!r}: their neighbours say nothing"
        warnings.warn(message, stacklevel=stacklevel)
