"""Error bar and bias of a Fréchet distance, and the influence of each sample.

Both are computed from the distances without each row, which are exact (`csrc/core/jackknife.hpp`), or without each
block of rows if the rows of a stream are not kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fidfast._arguments import require_real
from fidfast._inputs import Input, open_pair
from fidfast._metrics.duplicates import EqualRows, find_equal_rows, join_cautions
from fidfast._metrics.frechet import FrechetTerms, terms_between
from fidfast._metrics.groups import require_groups
from fidfast._metrics.jackknife import Jackknife
from fidfast._metrics.replicates import degrees_of_freedom
from fidfast._metrics.scale import in_units
from fidfast._results import Result, digits_of_error, value_with_error

__all__ = [
    "NORMAL",
    "Estimate",
    "estimate",
    "estimate_from_jackknife",
    "estimate_in_units",
    "estimate_with_terms",
    "estimate_without_error",
    "influence",
    "influence_from_jackknife",
    "scaled_estimate",
]

Array = NDArray[np.float64]

#: Shared rows may change the bias by this part of the standard error, and the variance by this part of itself.
SMALL_PART = 0.1

#: Levels of the intervals of independent rows that are not below 0: a caution and a note follow.
UNLIKELY, SURE = 1 - 1e-3, 1 - 1e-6

#: With this many degrees of freedom, Student's distribution is normal.
NORMAL = 1e9


@dataclass(frozen=True)
class Estimate(Result):
    """A Fréchet distance with its error bar and bias; returned by `estimate`.

    All distances are in squared units of the features. The distance is that of Dowson & Landau (1982), equation 16;
    the bias is that of Tiomoko & Couillet (2019), theorem 1, and Quenouille (1956); the standard error is that of the
    jackknife, corrected for the second order (Efron & Stein, 1981).
    """

    _properties: ClassVar[tuple[str, ...]] = ("unbiased", "interval_95")

    #: The distance of the samples, the number that `fid` returns. Biased upwards.
    value: float
    #: Standard error of `unbiased`; NaN if `note` is not None.
    stderr: float
    #: How much of `value` is due to the finite number of samples; NaN if `note` is not None.
    bias: float
    #: Number of samples of both sides; None for a side that is taken as exact.
    num_samples: tuple[int | None, int | None]
    #: Bound on the rounding error of `value`, as in `FrechetTerms`.
    rounding: float
    #: Degrees of freedom of `stderr`: fewer if a few rows dominate it; for blocks their number minus one.
    degrees_of_freedom: float = math.inf
    #: Name of the network that computed the features, or None if it is unknown.
    extractor: str | None = None
    #: Why there is no error bar, or None.
    note: str | None = None
    #: Why the error bar may be too narrow, or None.
    caution: str | None = None
    #: Number of rows of the samples that are also rows of the reference; None if a side has no rows.
    shared_rows: int | None = field(default=None, kw_only=True)

    @property
    def unbiased(self) -> float:
        """The distance without bias: that of infinitely many samples, within the error bar. May be negative."""
        return self.value - self.bias

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of the distance of infinitely many samples, around `unbiased`.

        Parameters
        ----------
        level : float, default 0.95
            Between 0 and 1.

        Returns
        -------
        (float, float)

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        level = require_real("level", level, lambda number: 0 < number < 1, "between 0 and 1")
        from scipy.special import stdtrit

        half = float(stdtrit(min(self.degrees_of_freedom, NORMAL), (1 + level) / 2)) * self.stderr
        return self.unbiased - half, self.unbiased + half

    @property
    def interval_95(self) -> tuple[float, float]:
        """``interval(0.95)``."""
        return self.interval()

    @property
    def unbiased_text(self) -> str:
        """`unbiased` with its standard error, with two digits of the error."""
        return value_with_error(self.unbiased, self.stderr)

    @property
    def interval_text(self) -> str:
        """``12.18 to 12.50``: `interval_95` with as many decimals."""
        low, high = self.interval()
        return f"{digits_of_error(low, self.stderr)} to {digits_of_error(high, self.stderr)}"

    @property
    def bias_text(self) -> str:
        """`bias` with its sign and as many decimals."""
        return digits_of_error(self.bias, self.stderr, "+")

    def table(self) -> str:
        """All numbers, one per line."""
        counts = " and ".join("exact" if n is None else f"{n:,}" for n in self.num_samples)
        lines = {
            "value": f"{self.value:.8g}",
            "unbiased": "–" if self.note else self.unbiased_text,
            "95 % interval": "–" if self.note else self.interval_text,
            "bias": "–" if self.note else self.bias_text,
            **({} if self.note is None else {"note": self.note}),
            **({} if self.caution is None else {"caution": self.caution}),
            "num_samples": counts,
            **({"shared_rows": f"{self.shared_rows:,}"} if self.shared_rows else {}),
            "rounding": f"at most {self.rounding:.1g}",
            "extractor": self.extractor or "unknown",
        }
        return "\n".join(f"{name:15}{text}" for name, text in lines.items())

    def __str__(self) -> str:
        if self.note is not None:
            return f"{self.value:.6g}, without an error bar: {self.note}"
        sampled = " and ".join(f"{n:,}" for n in self.num_samples if n is not None)
        return f"{self.unbiased_text} (95 % {self.interval_text}), bias of {sampled} samples {self.bias_text}" + (
            "" if self.caution is None else f"; {self.caution}"
        )


def estimate(samples: Any, reference: Any, *, groups: Any = None, precision: str = "float32") -> Estimate:
    """Fréchet distance with its standard error and its bias.

    Parameters
    ----------
    samples : (n, dim) array or tensor, path of features, or Moments with blocks
        The generated samples.
    reference : array, tensor, Moments, GaussianStats or path
        Features, or Moments with blocks, are a sample too, and contribute to error and bias; statistics are exact.
    groups : (n,) array of integers or strings, or tuple of two, optional
        The group of each row, where rows are not independent: the file of each frame of videos, the clip of each window
        of audio. The jackknife leaves out whole groups. A tuple has the groups of samples and reference, None for a
        side whose rows are independent; it is needed if the reference has rows too.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Estimate
        Without an error bar, and with a note, if a side has fewer than twice as many samples as directions with nonzero
        variance, not counting one row or the largest block; if so many rows are in both sides that they would change
        the bias by more than a tenth of the standard error; if a side contains every row several times; or if
        `unbiased` is below 0 by more than its error bar allows, which independent rows do not give.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, neither side has rows or blocks, or the distance is outside the range of float64.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.

    Notes
    -----
    The jackknife, exact for every row, of the distance without the spread of a sample's eigenvalues (Tiomoko &
    Couillet, 2019). Its mean removes what the fourth moments of the features add to the bias (Quenouille, 1956). Its
    variance counts the second order twice (Efron & Stein, 1981); one of the two is subtracted, and the rest is the
    variance if the distributions are equal, so that the error bar is valid there too. The interval is that of Student's
    distribution, whose degrees of freedom follow from the kurtosis of the rows' contributions (Satterthwaite, 1946).

    Rows, or groups of rows, are assumed to be independent; rows that repeat within a side, other than within a group,
    are reported as a caution. It takes about three times as long as `fid`. Apart from three numbers per row, memory
    does not grow with n.

    Groups are combined into at most 40 blocks, by a hash of their names, and the distance is computed without each
    block: as long as 40 times `fid` of statistics. Their sizes may differ (Busing, Meijer & van der Leeden, 1999). How
    many independent samples the rows are worth follows from the bias with and without groups.
    """
    inputs = open_pair(samples, reference, precision=precision)
    found = require_groups(groups, inputs)
    return estimate_from_jackknife(Jackknife(*inputs, precision, groups=found))


def influence(samples: Any, reference: Any, *, precision: str = "float32") -> Array:
    """How much each sample adds to the Fréchet distance: the distance of all samples minus that without it.

    Parameters
    ----------
    samples : (n, dim) array or tensor, or path of features
        The generated samples, at least 3.
    reference : array, tensor, Moments, GaussianStats or path
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    (n,) ndarray
        In units of the distance (squared units of the features); the samples with the largest values increase the
        distance most, and ``argsort`` finds them. Exact for each single row, and additive to first order for several.

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or `samples` has no rows.

    Warns
    -----
    UserWarning
        If the two inputs have different extractors.
    """
    one, two = open_pair(samples, reference, precision=precision)
    one.check_rows("influence")
    return influence_from_jackknife(Jackknife(one, two, precision, exact_reference=True))


def influence_from_jackknife(jackknife: Jackknife) -> Array:
    """(n,) as `influence`."""
    in_units(jackknife.distance, jackknife.exponent, jackknife.given)  # raises unless float64 can hold it
    influence = jackknife.distance - jackknife.arrays[0].distance
    return in_units(influence, jackknife.exponent, jackknife.given)


def estimate_from_jackknife(jackknife: Jackknife, equal: EqualRows | None = None) -> Estimate:
    """The estimate, with its error bar if the samples suffice and are independent.

    `equal` has the equal rows of sides whose rows are not here.
    """
    return estimate_in_units(scaled_estimate(jackknife, equal), jackknife)


def estimate_in_units(estimate: Estimate, jackknife: Jackknife) -> Estimate:
    """The estimate in the squared unit of the features, from that in the unit of the jackknife."""
    exponent, given = jackknife.exponent, jackknife.given
    rounding = in_units(estimate.rounding, exponent, given, may_vanish=True)
    return replace(
        estimate,
        value=in_units(estimate.value, exponent, given),
        stderr=in_units(estimate.stderr, exponent, given),
        bias=in_units(estimate.bias, exponent, given, may_vanish=True),
        rounding=rounding if rounding > 0 or estimate.rounding == 0 else math.ulp(0.0),
    )


def scaled_estimate(jackknife: Jackknife, equal: EqualRows | None = None) -> Estimate:
    """As `estimate_from_jackknife`, in the unit of the jackknife."""
    samples, reference = jackknife.inputs
    terms = terms_between(samples.stats, reference.stats)
    if equal is None:
        groups = [None if each is None else each.codes for each in jackknife.groups]
        equal = find_equal_rows(samples, reference, groups)
    note = jackknife.note() or equal.why_no_error()
    if note is None:
        found = Estimate(
            value=terms.distance,
            stderr=math.sqrt(jackknife.variance(list(jackknife.replicates))),
            bias=jackknife.distance - jackknife.unbiased,
            num_samples=_counts(jackknife),
            rounding=terms.rounding,
            degrees_of_freedom=degrees_of_freedom(jackknife.replicates.values()),
            extractor=samples.extractor or reference.extractor,
            caution=jackknife.caution(),
            shared_rows=equal.shared_rows,
        )
        note = _why_dependent(found, equal)
        if note is None:
            return replace(found, caution=_caution(found, equal))
    return estimate_without_error(terms, samples, reference, note, jackknife, equal.shared_rows)


def _why_dependent(found: Estimate, equal: EqualRows) -> str | None:
    """Why the samples are not independent enough for an error bar, or None.

    If the two distributions are equal, shared rows reduce the bias by the factor 1 - overlap: the bias is half the
    trace of the second derivative, once for each side, minus its mixed part, to which only shared rows contribute.
    """
    if equal.shared is not None and equal.overlap * max(abs(found.bias), found.stderr) > SMALL_PART * found.stderr:
        return f"{equal.shared}, so the two sides are not independent"
    if found.interval(SURE)[1] < 0:
        return (
            f"without its bias the distance would be {found.unbiased_text}, far below 0: samples and reference "
            "are not independent (near copies of the same images, for example)"
        )
    return None


def _caution(found: Estimate, equal: EqualRows) -> str | None:
    shared = None if equal.shared is None else f"{equal.shared}, too few to matter"
    below = "the interval is below 0, as if samples and reference were not independent"
    negative = below if found.interval(UNLIKELY)[1] < 0 else None
    repeated = None if equal.repeated is None else f"{equal.repeated}: if they are copies, the error bar is too narrow"
    return join_cautions(found.caution, negative, shared, repeated)


def estimate_with_terms(estimate: Estimate, terms: FrechetTerms) -> Estimate:
    """The estimate with the value of covariances with another divisor; `unbiased` and the error bar stay."""
    bias = estimate.bias + terms.distance - estimate.value
    return replace(estimate, value=terms.distance, bias=bias, rounding=terms.rounding)


def estimate_without_error(
    terms: FrechetTerms,
    samples: Input,
    reference: Input,
    note: str,
    jackknife: Jackknife | None = None,
    shared_rows: int | None = None,
) -> Estimate:
    """An estimate without an error bar, and why."""
    degrees = math.inf if jackknife is None else degrees_of_freedom(jackknife.replicates.values())
    return Estimate(
        value=terms.distance,
        stderr=math.nan,
        bias=math.nan,
        num_samples=(None, None) if jackknife is None else _counts(jackknife),
        rounding=terms.rounding,
        degrees_of_freedom=degrees,
        extractor=samples.extractor or reference.extractor,
        note=note,
        shared_rows=shared_rows,
    )


def _counts(jackknife: Jackknife) -> tuple[int | None, int | None]:
    """Number of samples of the sides that are samples."""
    one, two = (
        source.num_samples if sampled else None
        for source, sampled in zip(jackknife.inputs, jackknife.sampled, strict=True)
    )
    return one, two
