"""Kernel distances between two sets of features: KID and CMMD."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import MAX_SEED, optional, require_choice, require_integer, require_precision, require_real
from fidfast._inputs import Input, open_pair
from fidfast._metrics.duplicates import EqualRows, PairResult, find_equal_rows, join_cautions
from fidfast._metrics.subsets import DRAWS
from fidfast._results import value_with_error

__all__ = ["KernelDistance", "SubsetKernelDistance", "cmmd", "kid", "kid_subsets"]


#: Equal pairs of rows may change the value by this part of the standard error.
_SMALL_PART = 0.1

#: The value must not be more than this many standard errors below 0: with independent rows, 1 in 2 million is.
_FAR_BELOW = 5.0


@dataclass(frozen=True)
class KernelDistance(PairResult):
    """An unbiased estimate of a squared kernel distance; returned by `kid`. ``float(result)`` is the value.

    Gretton et al. (2012), equation 3, with the variance of Sutherland (2019). In units of the kernel, not scaled.
    """

    #: The squared maximum mean discrepancy; may be below 0 if the two distributions are close.
    value: float
    #: Standard error of `value`; NaN if `note` is not None.
    stderr: float
    #: Number of samples of each side.
    num_samples: tuple[int, int]
    #: Why there is no error bar, or None.
    note: str | None = field(default=None, kw_only=True, repr=False)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if self.note is not None:
            return f"{self.value:.6g}, without an error bar: {self.note}"
        return self._with_caution(value_with_error(self.value, self.stderr))


@dataclass(frozen=True, eq=False)
class SubsetKernelDistance(PairResult):
    """Mean and spread of a kernel distance over subsets; returned by `kid_subsets`. ``float(result)`` is the mean.

    Bińkowski et al. (2018), section 4. All distances are in units of the kernel, not scaled.
    """

    #: Mean over the subsets.
    mean: float
    #: Standard deviation over the subsets (division by their number). It depends on the size of the subsets, and is
    #: not the standard error of `mean`. NaN if there is one subset, or if each subset holds all rows.
    std: float
    #: (subsets,) the distance of each subset.
    values: NDArray[np.float64]
    #: Rows of each subset, of either side.
    subset_size: int
    #: Seed of the random subsets; None if the generator was not seeded by `kid_subsets`.
    seed: int | None
    #: The tool whose subsets are drawn.
    like: str

    def __float__(self) -> float:
        return self.mean

    def __repr__(self) -> str:
        return f"SubsetKernelDistance(mean={self.mean!r}, std={self.std!r}, subsets={len(self.values)})"

    def __str__(self) -> str:
        subsets = f"{len(self.values):,} {'subset' if len(self.values) == 1 else 'subsets'}"
        if math.isnan(self.std):
            which = subsets if len(self.values) == 1 else f"{subsets}, which all hold the same rows"
            return self._with_caution(f"{self.mean:.6g}, no standard deviation of {which}")
        return self._with_caution(f"{self.mean:.6g}, standard deviation {self.std:.2g} over {subsets}")


def kid(
    samples: Any,
    reference: Any,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    precision: str = "float32",
) -> KernelDistance:
    """Kernel distance over all pairs of rows (the KID, for features of the 2015 Inception network).

    Parameters
    ----------
    samples, reference : array, tensor or path
        (n, dim) features in float16, bfloat16, float32 or float64, n at least 2; or a file, folder or
        pattern of features (read block by block). Moments and statistics do not determine a kernel distance.
    degree, gamma, coef0 : int, float, float
        The kernel is ``(gamma x.y + coef0)^degree``; `gamma` is 1 / dim by default.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the products ``x.y`` of float32, float16 and bfloat16 rows, after centring. "float32" includes
        exact products of rows rounded to integers on processors that have them; the measured effect is at most 3e-4
        standard errors. Everything else, and the products of float64 rows, is float64.

    Returns
    -------
    KernelDistance
        The unbiased estimate of the squared maximum mean discrepancy, not scaled; its standard error; and the numbers
        of samples, which may differ.

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
    Bińkowski, Sutherland, Arbel & Gretton (2018), section 4, with all pairs instead of subsets. The standard error is
    the root of an unbiased estimate of the value's variance: all terms of Hoeffding's decomposition of the two-sample
    U-statistic, which Sutherland (2019), "Unbiased estimators for the variance of MMD estimators", gives for sets of
    equal size. There is no standard error, and `note` gives the reason, if

    - that estimate is not positive, which can happen if the two distributions are equal;
    - a side has fewer than 4 samples, or contains every row several times;
    - the rows that are in both sides change the value by more than a tenth of the standard error;
    - the value is far below 0, as for near copies of the same rows.

    The memory is two blocks of up to 2,048 rows, their products, and about 100 bytes for each row.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> distance = kid(rng.normal(size=(500, 8)), rng.normal(size=(400, 8)) + 0.5)
    >>> round(distance.value, 2), round(distance.stderr, 2), distance.num_samples
    (1.29, 0.12, (500, 400))
    """
    degree, gamma, coef0 = _checked_kernel(degree, gamma, coef0)
    require_precision(precision)
    one, two = open_pair(samples, reference)
    value, error, n, m = _core.kid(one.require_rows("kid"), two.require_rows("kid"), degree, gamma, coef0, precision)
    equal = find_equal_rows(one, two)
    own = [_kernel_with_itself(side, degree, gamma, coef0) for side in (one, two)]
    note = _why_dependent(error, equal, own) or equal.why_no_error() or _why_no_error(value, error, (one, two), (n, m))
    biased = "the value is biased if they are copies"
    caution = join_cautions(equal.caution(f": {biased}", biased), _heaviest_row((one, two), own))
    return KernelDistance(
        value,
        error if note is None else math.nan,
        (n, m),
        note=note,
        caution=caution if note is None else None,
        shared_rows=equal.shared_rows,
    )


def kid_subsets(
    samples: Any,
    reference: Any,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int | None = 2020,
    like: str = "torch-fidelity",
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    precision: str = "float32",
) -> SubsetKernelDistance:
    """Kernel distance as other tools report it: mean and standard deviation over the random subsets that they draw.

    Parameters
    ----------
    samples, reference : array, tensor or path
        As in `kid`. The subsets of both are drawn from one random generator: `samples` and `reference` are
        torch-fidelity's ``input1`` and ``input2``, torchmetrics' ``real=False`` and ``real=True``, clean-fid's
        ``feats1`` and ``feats2``.
    subsets : int, default 100
        Number of subsets.
    subset_size : int, default 1000
        Rows of a subset, of either side.
    seed : int or None, default 2020
        2020 is the default ``rng_seed`` of torch-fidelity. None uses the generator that the tool uses without a seed: a
        new one for torch-fidelity, torch's global one for torchmetrics, NumPy's global one for clean-fid.
    like : {"torch-fidelity", "torchmetrics", "clean-fid"}, default "torch-fidelity"
        How rows are drawn: by ``numpy.random.RandomState(seed).choice``, by ``torch.randperm`` after
        ``torch.manual_seed(seed)``, or by ``numpy.random.choice`` after ``numpy.random.seed(seed)``; the last makes
        the subsets smaller if a side has fewer than `subset_size` rows.
    degree, gamma, coef0, precision
        As in `kid`.

    Returns
    -------
    SubsetKernelDistance
        The result of that tool, up to its float32 rounding.

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
    `kid` is the better estimate: it uses every pair of rows once, is not random, and has a standard error.
    """
    require_choice("like", like, tuple(DRAWS))
    degree, gamma, coef0 = _checked_kernel(degree, gamma, coef0)
    require_precision(precision)
    subsets = require_integer("subsets", subsets, 1, _MOST_SUBSETS)
    subset_size = require_integer("subset_size", subset_size, 2)
    seed = optional(require_integer, "seed", seed, 0, MAX_SEED if like != "torchmetrics" else 2**62)
    one, two = open_pair(samples, reference)
    rows = one.require_rows("kid_subsets"), two.require_rows("kid_subsets")
    n, m = _num_rows(rows[0], "samples"), _num_rows(rows[1], "reference")
    name, least = ("samples", n) if n <= m else ("reference", m)
    size = min(subset_size, least) if like == "clean-fid" else subset_size
    if size > least:
        raise ValueError(f"subset_size must be at most {least}, the number of rows of {name}, got {size}")
    values = np.empty(subsets)
    at_once = max(1, _ROWS_AT_ONCE // size)
    draw = DRAWS[like](n, m, size, seed)
    for first in range(0, subsets, at_once):
        pairs = [draw() for _ in range(min(at_once, subsets - first))]
        of_samples, of_reference = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
        values[first : first + len(pairs)] = _core.kid_of_subsets(
            rows[0], rows[1], of_samples, of_reference, degree, gamma, coef0, precision
        )
    equal = find_equal_rows(one, two)
    biased = "the mean is biased if they are copies"
    std = math.nan if subsets == 1 or size == n == m else float(values.std())
    return SubsetKernelDistance(
        float(values.mean()), std, values, size, seed, like,
        caution=equal.caution(f": {biased}", biased), shared_rows=equal.shared_rows,
    )  # fmt: skip


def cmmd(samples: Any, reference: Any, *, sigma: float = 10.0, precision: str = "float32") -> float:
    """Distance with a Gaussian kernel, times 1000 (the CMMD, for CLIP features of unit norm).

    Parameters
    ----------
    samples, reference : array, tensor or path
        As in `kid`, used as they are: CMMD is defined for CLIP embeddings after
        ``x / numpy.linalg.norm(x, axis=1, keepdims=True)``, which the caller applies.
    sigma : float, default 10
        The kernel is ``exp(-|x - y|^2 / (2 sigma^2))``.
    precision : {"float32", "float64"}, default "float32"
        As in `kid`.

    Returns
    -------
    float
        1000 times the biased estimate of the squared maximum mean discrepancy, over all pairs including those of a row
        with itself; never negative, and 0 if both sides hold the same rows, in any order.

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
    Jayasumana et al. (2024), "Rethinking FID", with the scale of their code. The bias is about
    ``1000 (1 - mean k) (1 / n + 1 / m)``: compare equal numbers of samples.
    """
    sigma = require_real("sigma", sigma)
    require_precision(precision)
    one, two = open_pair(samples, reference)
    value = _CMMD_SCALE * _core.gaussian_mmd(one.require_rows("cmmd"), two.require_rows("cmmd"), sigma, precision)
    return 0.0 if value > 0 and find_equal_rows(one, two).same_distribution else value  # the rest is rounding


#: The factor in the code of CMMD's authors.
_CMMD_SCALE = 1000.0

#: Subsets take at least some microseconds each.
_MOST_SUBSETS = 1_000_000

#: Rows of the subsets that are drawn before they are compared: 32 MB for each side.
_ROWS_AT_ONCE = 2**22

#: Numbers that are converted to float64 at a time: 8 MiB.
_NUMBERS_IN_FLOAT64 = 2**20

#: As in the compiled core.
_LARGEST_DEGREE = 100


def _checked_kernel(degree: Any, gamma: Any, coef0: Any) -> tuple[int, float | None, float]:
    """The options of a polynomial kernel; the compiled core checks that it is positive definite."""
    return (
        require_integer("degree", degree, 1, _LARGEST_DEGREE),
        optional(require_real, "gamma", gamma),
        require_real("coef0", coef0),
    )


def _kernel_with_itself(side: Input, degree: int, gamma: float | None, coef0: float) -> NDArray[np.float64]:
    """(n,) logarithm of the kernel of each row with itself."""
    parts = []
    for rows in side.slices():
        n, dim = _core.require_finite(rows)
        scale = -math.log(dim) if gamma is None else math.log(gamma)
        step = max(1, _NUMBERS_IN_FLOAT64 // dim)
        for first in range(0, n, step):
            part = np.arange(first, min(first + step, n))
            values = _core.gather(rows, part).astype(np.float64)
            # A power of 2 keeps the squares in the range of float64.
            power = int(np.frexp(np.abs(values).max(initial=0.0))[1])
            values = np.ldexp(values, -power)
            with np.errstate(divide="ignore"):
                squares = np.log(np.einsum("ij,ij->i", values, values)) + 2 * power * math.log(2)
                parts.append(degree * np.logaddexp(scale + squares, np.log(coef0)))
    return np.concatenate(parts)


def _why_no_error(value: float, error: float, sides: tuple[Input, Input], counts: tuple[int, int]) -> str | None:
    """Why the standard error is not valid, apart from equal rows, or None."""
    for side, n in zip(sides, counts, strict=True):
        if n < 4:
            return f"it needs at least 4 samples; {side.name} has {n}"
    if error == 0:
        return "the variance is too small to be estimated from so few samples"
    if value < -_FAR_BELOW * error:
        text = value_with_error(value, error)
        return f"{text} is far below 0: samples and reference are not independent (near copies, for example)"
    return None


def _why_dependent(error: float, equal: EqualRows, own: list[NDArray[np.float64]]) -> str | None:
    """Why the two sides are not independent, or None.

    An equal pair contributes the kernel of a row with itself to the mean over the pairs of both sides.
    """
    if equal.shared is None:
        return None
    with np.errstate(over="ignore"):
        effect = 2 * float(equal.times_in_reference @ np.exp(own[0])) / (len(own[0]) * len(own[1]))
    if equal.overlap > _SMALL_PART or not effect <= _SMALL_PART * error:
        return f"{equal.shared}, so the two sides are not independent"
    return None


def _heaviest_row(sides: tuple[Input, Input], own: list[NDArray[np.float64]]) -> str | None:
    """Which row determines the value alone, or None."""
    for side, kernels in zip(sides, own, strict=True):
        # By the Cauchy-Schwarz inequality the kernel of two rows is at most the product of these.
        sizes = np.exp((kernels - kernels.max()) / 2) if np.isfinite(kernels.max()) else np.ones(len(kernels))
        if sizes.max() > sizes.sum() / 2:
            return f"row {int(sizes.argmax())} of {side.name} outweighs all other rows together"
    return None


def _num_rows(features: Any, name: str) -> int:
    shape = getattr(features, "shape", None)
    if shape is None:
        raise TypeError(f"{name}: features must be an array or tensor (n, dim), got {type(features).__name__}")
    if len(shape) != 2:
        raise ValueError(f"{name}: features must be 2-D (n, dim), got shape {tuple(shape)}")
    return int(shape[0])
