"""The comparison of two models by their Fréchet distances to the same reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from fidfast._arguments import require_bool
from fidfast._inputs import Input, open_input, warn_of_extractors
from fidfast._metrics.duplicates import find_equal_rows, join_cautions
from fidfast._metrics.groups import require_groups
from fidfast._metrics.jackknife import Jackknife
from fidfast._metrics.replicates import degrees_of_freedom
from fidfast._metrics.scale import in_units
from fidfast._metrics.uncertainty import NORMAL, Estimate, estimate_in_units, scaled_estimate
from fidfast._results import Result, value_with_error

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison(Result):
    """Which of two models is closer to the reference; returned by `compare`.

    Distances are in squared units of the features. The standard error is that of the jackknife of the difference
    (Efron & Stein, 1981), the degrees of freedom those of Satterthwaite (1946).
    """

    #: `unbiased` of `a` minus that of `b`: negative if `a` is better.
    difference: float
    #: Its standard error; NaN if `a` or `b` has a note.
    stderr: float
    #: Two-sided probability of a difference at least as large if the models are equal, by Student's distribution.
    p_value: float
    #: Estimate of the first model.
    a: Estimate
    #: Estimate of the second model.
    b: Estimate
    #: Degrees of freedom of `stderr`, as in `Estimate`.
    degrees_of_freedom: float = math.inf
    #: Why the standard error may not be right, including the cautions of `a` and `b`, or None.
    caution: str | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        for name, side in (("a", self.a), ("b", self.b)):
            if side.note is not None:
                return f"{name} has no error bar: {side.note}"
        text = f"difference {value_with_error(self.difference, self.stderr)}, p = {self.p_value:.2g}"
        return text if self.caution is None else f"{text}; {self.caution}"


def compare(
    samples_a: Any,
    samples_b: Any,
    reference: Any,
    *,
    paired: bool = False,
    groups: Any = None,
    precision: str = "float32",
) -> Comparison:
    """Whether model A is closer to the reference than model B.

    Parameters
    ----------
    samples_a, samples_b : (n, dim) arrays or tensors, or paths of features
        The samples of the two models.
    reference : array, tensor, Moments, GaussianStats or path
        As in `estimate`. Its own sampling error is common to both distances, and mostly cancels.
    paired : bool, default False
        Whether row i of both was made from the same prompt, class or seed; their common variation cancels too.
    groups : tuple of three, optional
        For `samples_a`, `samples_b` and `reference`, the group of each row as in `estimate`, or None. Paired rows have
        equal groups.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If an argument cannot be used, or `paired` is True and the numbers of rows, or the groups, differ.

    Warns
    -----
    UserWarning
        If two of the arguments have different extractors.

    Notes
    -----
    As in `estimate`; the second order is not subtracted for shared rows, so the standard error is conservative.
    """
    paired = require_bool("paired", paired)
    names = ("samples_a", "samples_b", "reference")
    one, two, common = (
        open_input(source, name, precision=precision, rows=True)
        for source, name in zip((samples_a, samples_b, reference), names, strict=True)
    )
    for side in (one, two):
        side.check_rows("compare")
        warn_of_extractors(side, common)
    warn_of_extractors(one, two)
    if paired and one.num_samples != two.num_samples:
        raise ValueError(
            f"samples_a has {one.num_samples} rows, but samples_b has {two.num_samples}: they cannot be paired"
        )
    of_a, of_b, of_common = require_groups(groups, (one, two, common), paired=paired)
    first = Jackknife(one, common, precision, groups=(of_a, of_common))
    second = Jackknife(two, common, precision, groups=(of_b, of_common))
    a, b = scaled_estimate(first), scaled_estimate(second)
    exponent = max(first.exponent, second.exponent)  # the larger unit
    shift_a, shift_b = first.exponent - exponent, second.exponent - exponent
    parts_a = {k: part.in_unit(shift_a) for k, part in first.arrays.items()}
    parts_b = {k: part.in_unit(shift_b) for k, part in second.arrays.items()}
    parts = []
    if common.has_samples:
        parts.append(parts_a[1] - parts_b[1])
    if paired:
        parts.append(parts_a[0] - parts_b[0])
    variance = sum(part.variance for part in parts)
    if not paired:
        parts += [parts_a[0], parts_b[0]]
        variance += math.ldexp(first.variance([0]), 4 * shift_a) + math.ldexp(second.variance([0]), 4 * shift_b)
    usable = a.note is None and b.note is None
    stderr = math.sqrt(variance) if usable else math.nan
    difference = math.ldexp(a.unbiased, 2 * shift_a) - math.ldexp(b.unbiased, 2 * shift_b)
    degrees = degrees_of_freedom(parts)
    p_value = _p_value(difference, stderr, degrees)
    given = (one, two, common)
    difference = in_units(difference, exponent, given, may_vanish=True)
    stderr = in_units(stderr, exponent, given)
    a, b = estimate_in_units(a, first), estimate_in_units(b, second)
    caution = join_cautions(_caution_of_pair(one, two, paired), _cautions_of_sides(a, b))
    return Comparison(difference, stderr, p_value, a, b, degrees, caution=caution)


def _caution_of_pair(one: Input, two: Input, paired: bool) -> str | None:
    """What equal rows of the two models mean for a comparison that does not pair rows."""
    equal = find_equal_rows(one, two)
    if paired or equal.shared is None:
        return None
    return f"{equal.shared}: the standard error is too large, unless paired=True pairs them"


def _cautions_of_sides(a: Estimate, b: Estimate) -> str | None:
    """The cautions of both estimates, with the name of the side; once without a name if they are equal."""
    if a.caution == b.caution:
        return a.caution
    return join_cautions(*(f"{name}: {side.caution}" for name, side in (("a", a), ("b", b)) if side.caution))


def _p_value(difference: float, stderr: float, degrees_of_freedom: float) -> float:
    """Two-sided p-value of Student's distribution."""
    if stderr == 0:  # the same rows twice
        return float(difference == 0)
    from scipy.special import stdtr

    return 2 * float(stdtr(min(degrees_of_freedom, NORMAL), -abs(difference) / stderr))
