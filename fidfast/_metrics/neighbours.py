"""Nearest-neighbour metrics: precision and recall, density and coverage, memorization-informed FID."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fidfast import _core
from fidfast._arguments import optional, require_bool, require_choice, require_integer, require_real
from fidfast._inputs import open_pair
from fidfast._metrics.duplicates import PairResult, find_equal_rows
from fidfast._metrics.frechet import terms_between
from fidfast._metrics.scale import in_units, rescaled_inputs

__all__ = [
    "DensityCoverage",
    "ManifoldMetrics",
    "PrecisionRecall",
    "density_coverage",
    "density_coverage_of",
    "manifold_metrics",
    "mifid",
    "precision_recall",
    "precision_recall_of",
]

#: Tools whose rounding `precision_recall` reproduces.
_TOOLS = ("adm", "stylegan3")

#: What equal rows between the sides, and within one, mean for these metrics.
_EQUAL_ROWS = (", and count as within its manifold", "the balls are too small if they are copies")


@dataclass(frozen=True)
class PrecisionRecall(PairResult):
    """Shares of each set within the manifold of the other; returned by `precision_recall`.

    Kynkäänniemi et al. (2019), equation 2.
    """

    #: Share of the samples that are in a ball around a reference sample.
    precision: float
    #: Share of the reference samples that are in a ball around a sample.
    recall: float

    def __str__(self) -> str:
        return self._with_caution(f"precision {self.precision:.4f}, recall {self.recall:.4f}")


@dataclass(frozen=True)
class DensityCoverage(PairResult):
    """How the samples fill the balls around the reference samples; returned by `density_coverage`.

    Naeem et al. (2020), equations 2 and 3.
    """

    #: Mean number of reference balls that contain a sample, divided by k; may exceed 1.
    density: float
    #: Share of the reference samples whose ball contains a sample.
    coverage: float

    def __str__(self) -> str:
        return self._with_caution(f"density {self.density:.4f}, coverage {self.coverage:.4f}")


@dataclass(frozen=True)
class ManifoldMetrics(PairResult):
    """`PrecisionRecall` and `DensityCoverage` of the same two sets; returned by `manifold_metrics`.

    Kynkäänniemi et al. (2019), equation 2; Naeem et al. (2020), equations 2 and 3.
    """

    #: Share of the samples that are in a ball around a reference sample.
    precision: float
    #: Share of the reference samples that are in a ball around a sample.
    recall: float
    #: Mean number of reference balls that contain a sample, divided by k; may exceed 1.
    density: float
    #: Share of the reference samples whose ball contains a sample.
    coverage: float

    def __str__(self) -> str:
        return self._with_caution(
            f"precision {self.precision:.4f}, recall {self.recall:.4f}, density {self.density:.4f}, "
            f"coverage {self.coverage:.4f}"
        )


def precision_recall(
    samples: Any, reference: Any, *, k: int = 3, inclusive: bool = True, like: str | None = None
) -> PrecisionRecall:
    """Improved precision and recall: the share of each set that is within the manifold of the other.

    The manifold of a set is the union of balls around its samples. The radius of a ball is the distance to the `k`-th
    nearest neighbour in the set, the sample itself not counted.

    Parameters
    ----------
    samples : array, tensor or path
        (n, dim) features of the model's samples in float16, bfloat16, float32 or float64, or a file of features.
    reference : array, tensor or path
        (m, dim) features of real data.
    k : int, default 3
        The neighbour that determines the radius; below `n` and `m`.
    inclusive : bool, default True
        Whether a sample at exactly the radius is in the ball: True in the paper, its authors' code and torch-fidelity,
        False in prdc. It matters if samples repeat.
    like : {"adm", "stylegan3"}, optional
        A tool whose rounding is reproduced: the evaluator of guided-diffusion (ADM), or ``pr50k3`` of StyleGAN3. Both
        compute distances in float16 (see Notes), so that many are equal to a radius and count as inside. By default
        the distances are those of float64.

    Returns
    -------
    PrecisionRecall

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used; the message names it. Statistics are rejected, because neighbours need the
        features.
    FileNotFoundError
        If a path does not exist.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Kynkäänniemi et al. (2019), equations 1 and 2. The counts are those of float64 distances, including ties and
    repeated samples, for features of any type; memory does not grow with the number of pairs.

    With `like`, features are rounded to float32 and then to float16, and the radius is the ``k + 1``-th smallest of all
    distances of a sample in its set. The distance to itself takes part with its rounding error, which may not be 0.

    - "adm", ``evaluations/evaluator.py`` of openai/guided-diffusion: squared distances ``|x|^2 - 2 x.y + |y|^2``, where
      each square, sum, product, doubling, subtraction and addition is rounded to float16. If one of the distances of a
      block of 10,000 x 10,000 samples is not finite in float16 (above 65,504), the block is computed in float32.
    - "stylegan3", ``metrics/precision_recall.py`` of NVlabs/stylegan3: distances of ``torch.cdist`` in float16: the
      three terms are summed in one matrix product and rounded once, as is the root.

    The sources do not determine how a GPU adds up the terms of a product or a sum. Here products and sums are added up
    in float32, or more exactly, and then rounded: this is the default of TensorFlow and PyTorch for products of float16
    matrices. TensorFlow adds up the squares of a norm in float16 on some GPUs, in an order that depends on the
    version, and newer ones may multiply float32 matrices in TF32. So the last digits of a published number can differ.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.arange(8.0).reshape(8, 1)
    >>> precision_recall(reference[:4] + 0.25, reference, k=1)
    PrecisionRecall(precision=1.0, recall=0.625)
    """
    if optional(require_choice, "like", like, _TOOLS) is None:
        (shares,) = _shares("precision_recall", samples, reference, [(k, inclusive, True)])
        return precision_recall_of(shares)
    k = require_integer("k", k, 1)
    if not require_bool("inclusive", inclusive):
        raise ValueError(f"inclusive=False contradicts like={like!r}, which counts a sample at the radius as inside")
    one, two = open_pair(samples, reference)
    rows = one.require_rows("precision_recall"), two.require_rows("precision_recall")
    precision, recall = _core.rounded_precision_recall(*rows, k, like == "stylegan3")
    equal = find_equal_rows(one, two)
    return PrecisionRecall(precision, recall, shared_rows=equal.shared_rows, caution=equal.caution(*_EQUAL_ROWS))


def density_coverage(samples: Any, reference: Any, *, k: int = 5, inclusive: bool = False) -> DensityCoverage:
    """Density and coverage: how many reference balls contain a sample, and the share of balls that contain one.

    Around every reference sample is a ball. Its radius is the distance to the `k`-th nearest neighbour in the
    reference, the sample itself not counted.

    Parameters
    ----------
    samples : array, tensor or path
        (n, dim) features of the model's samples in float16, bfloat16, float32 or float64, or a file of features.
    reference : array, tensor or path
        (m, dim) features of real data.
    k : int, default 5
        The neighbour that determines the radius; below `m`.
    inclusive : bool, default False
        Whether a sample at exactly the radius is in the ball: False in prdc, the authors' code.

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
        If the two inputs have different extractors.

    Notes
    -----
    Naeem et al. (2020), equations 2 and 3. As exact as `precision_recall`.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.arange(8.0).reshape(8, 1)
    >>> density_coverage(reference[:4] + 0.25, reference, k=1)
    DensityCoverage(density=2.0, coverage=0.625)
    """
    (shares,) = _shares("density_coverage", samples, reference, [(k, inclusive, False)])
    return density_coverage_of(shares)


def manifold_metrics(
    samples: Any, reference: Any, *, k: int | None = None, inclusive: bool | None = None
) -> ManifoldMetrics:
    """Precision, recall, density and coverage in one pass over the pairs of samples.

    Parameters
    ----------
    samples : array, tensor or path
        (n, dim) features of the model's samples in float16, bfloat16, float32 or float64, or a file of features.
    reference : array, tensor or path
        (m, dim) features of real data.
    k : int, optional
        The neighbour that determines the radius, for all four; by default 3 for precision and recall, 5 for density
        and coverage, as in the functions of these names.
    inclusive : bool, optional
        Whether a sample at exactly the radius is in the ball, for all four; by default True for precision and recall,
        False for density and coverage. ``k=5, inclusive=False`` gives the numbers of prdc's ``compute_prdc``.

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
        If the two inputs have different extractors.
    """
    manifold_rule = (3 if k is None else k, True if inclusive is None else inclusive, True)
    ball_rule = (5 if k is None else k, False if inclusive is None else inclusive, False)
    manifold, balls = _shares("manifold_metrics", samples, reference, [manifold_rule, ball_rule])
    return replace(balls, precision=manifold.precision, recall=manifold.recall)


def mifid(
    samples: Any,
    reference: Any,
    *,
    mean_over: str = "samples",
    threshold: float = 0.1,
    precision: str = "float32",
) -> float:
    """Memorization-informed Fréchet distance: the distance, increased if samples are near copies of the reference.

    Parameters
    ----------
    samples : array, tensor or path
        (n, dim) features of the model's samples in float16, bfloat16, float32 or float64, or a file of features.
    reference : array, tensor or path
        (m, dim) features of the training data.
    mean_over : {"samples", "reference"}, default "samples"
        The side whose cosine distances to the nearest sample of the other side are averaged: "samples" detects copies
        of training data; "reference" is the convention of torchmetrics.
    threshold : float, default 0.1
        A mean cosine distance of at least this counts as no memorization; above 0, at most 1.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for the Fréchet distance. The cosines are those of float64.

    Returns
    -------
    float
        ``fid / (d + 1e-14)`` with the mean distance ``d`` if it is below the threshold, else with ``d = 1``. 0 if the
        Fréchet distance is at most its rounding error; with ``mean_over="reference"``, as in torchmetrics, if it is at
        most 1e-8.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `precision_recall`; also if all features of a side are zero.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    Bai et al. (2021), "On training sample memorization", which leaves the threshold and the number added to ``d`` open;
    0.1 and 1e-14 are those of Kaggle's competition and of torchmetrics. The cosine distance is ``1 - |cos|``, of
    features that are not centred. Samples whose features are all zero have no direction and are excluded from ``d``;
    Kaggle's code and torchmetrics exclude those whose features sum to zero.
    """
    require_choice("mean_over", mean_over, ("samples", "reference"))
    threshold = require_real("threshold", threshold, lambda number: 0 < number <= 1, "above 0 and at most 1")
    given = open_pair(samples, reference, precision=precision)
    for side in given:
        side.check_rows("mifid")
    (one, two), exponent = rescaled_inputs(*given)
    rows = one.require_rows("mifid"), two.require_rows("mifid")
    distance = _core.mean_nearest_cosine_distance(*rows, mean_over == "samples")
    terms = terms_between(one.stats, two.stats)
    by_rounding = terms.distance <= terms.rounding
    if by_rounding if mean_over == "samples" else np.ldexp(terms.distance, 2 * exponent) <= 1e-8:
        return 0.0
    return in_units(terms.distance / ((distance if distance < threshold else 1.0) + 1e-14), exponent, given)


def precision_recall_of(found: ManifoldMetrics) -> PrecisionRecall:
    """Two of the four numbers."""
    return PrecisionRecall(found.precision, found.recall, shared_rows=found.shared_rows, caution=found.caution)


def density_coverage_of(found: ManifoldMetrics) -> DensityCoverage:
    """The other two of the four numbers."""
    return DensityCoverage(found.density, found.coverage, shared_rows=found.shared_rows, caution=found.caution)


def _shares(caller: str, samples: Any, reference: Any, rules: list[tuple[int, bool, bool]]) -> list[ManifoldMetrics]:
    """Metrics for each rule (k, inclusive, whether to compute recall)."""
    checked = [
        (require_integer("k", k, 1), require_bool("inclusive", inclusive), recall) for k, inclusive, recall in rules
    ]
    one, two = open_pair(samples, reference)
    rows = one.require_rows(caller), two.require_rows(caller)
    shares = _core.manifold_metrics(*rows, checked)
    equal = find_equal_rows(one, two)
    caution = equal.caution(*_EQUAL_ROWS)
    return [ManifoldMetrics(*share, shared_rows=equal.shared_rows, caution=caution) for share in shares]
