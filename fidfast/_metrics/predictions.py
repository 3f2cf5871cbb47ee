"""Validation of logits and probabilities, and their probabilities and information in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core

__all__ = ["of_logits", "of_probabilities", "shape_of", "sum_p_log_p"]

#: exp of anything lower is 0 in float64; finite, so that 0 times it is 0.
_LEAST_LOGIT = -1000.0

#: Probabilities of a block as terms (n, num_classes) times weights (n,); and the rows' sum p log p, (n,).
Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def shape_of(predictions: Any) -> tuple[int, int]:
    """Shape (n, num_classes) of an array of finite numbers; raises an error that names `predictions` otherwise."""
    try:
        return _core.require_finite(predictions)
    except (TypeError, ValueError) as error:  # the core calls its argument features
        raise type(error)(str(error).replace("features", "predictions", 1)) from None


def of_logits(block: NDArray[Any]) -> Rows:
    """Softmax of the rows of a block (n, num_classes), which is overwritten if it is float64."""
    logits = block.astype(np.float64, copy=False)
    with np.errstate(over="ignore"):  # differences of finite numbers may overflow
        logits -= logits.max(axis=1, keepdims=True)
    np.maximum(logits, _LEAST_LOGIT, out=logits)
    terms = np.exp(logits)
    totals = terms.sum(axis=1)
    return terms, 1 / totals, np.einsum("ij,ij->i", terms, logits) / totals - np.log(totals)


def of_probabilities(block: NDArray[Any], first: int) -> Rows:
    """The same for rows (n, num_classes) that are probabilities; `first` is the number of the first row in the batch.

    Raises
    ------
    ValueError
        If a number is negative, or the sum of a row differs from 1 by more than rounding.
    """
    probabilities = block.astype(np.float64, copy=False)
    for row, column in np.argwhere(probabilities < 0)[:1]:
        raise ValueError(
            f"predictions must be probabilities (from_logits=False), but column {column} of row {first + row} is "
            f"{probabilities[row, column]:g}"
        )
    sums = probabilities.sum(axis=1)
    # The arithmetic of the network is unknown. A float32 softmax sums num_classes numbers, each with an error of up to
    # an epsilon; the relative error of bfloat16 probabilities is at most half of its epsilon, 2^-8.
    tolerance = probabilities.shape[1] * np.finfo(np.float32).eps + 2.0**-8
    for row in np.flatnonzero(np.abs(sums - 1) > tolerance)[:1]:
        raise ValueError(
            f"predictions must be probabilities (from_logits=False), but row {first + row} sums to {sums[row]:.6g}; "
            f"rounding explains a difference from 1 of at most {tolerance:.2g}"
        )
    return probabilities, np.ones(len(sums)), sum_p_log_p(probabilities)


def sum_p_log_p(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) sum of p log p of each row of (n, num_classes), with 0 log 0 = 0."""
    terms = probabilities * np.log(np.maximum(probabilities, np.finfo(float).tiny))
    return np.asarray(terms.sum(axis=1))
