"""Checks of the states of collectors, which may come from a damaged or foreign file.

Each function raises a ValueError that names the entry, and KeyError for a missing one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidfast import _core

__all__ = [
    "check_class_moments",
    "check_collection",
    "check_inception_score",
    "check_moments",
    "check_ngrams",
    "require_semidefinite",
]

_State = Mapping[str, NDArray[Any]]

#: Largest number of rows: integers up to here are exact in float64.
_MAX_COUNT = 2**53

#: Rows of a scatter that are checked together, to stay in the cache.
_SLICE = 64

#: Rounding to float32 explains errors of a covariance up to this fraction of its largest entry.
_ROUNDING = 1e-6

_ARRAYS_OF_BLOCK = {"count", "mean", "mean_low", "scatter", "narrow_rows", "wide_rows", "product_errors"}


def check_moments(state: _State) -> None:
    """Check the state of `Moments`."""
    dim = _integer(state, "dim", least=1)
    _text(state, "precision")
    _text(state, "extractor")
    blocks = _groups(state, ("dim", "precision", "extractor"))
    if not blocks:
        raise ValueError("the state of Moments has no blocks")
    for k in range(len(blocks)):
        _check_block(_group(blocks, k), dim, f"{k}/")


def check_class_moments(state: _State) -> None:
    """Check the state of `ClassMoments`, except the moments of each class."""
    _integer(state, "dim", least=1)
    num_classes = _integer(state, "num_classes", least=-1)
    precision, extractor = _text(state, "precision"), _text(state, "extractor")
    labels = np.asarray(state["labels"])
    _require(labels.ndim == 1 and labels.dtype.kind in "iU", "labels", "must be (n,) integers or strings", labels)
    _require(bool(np.all(labels[:-1] < labels[1:])), "labels", "must ascend without repetition", labels)
    if num_classes >= 0 and len(labels):
        is_valid = labels.dtype.kind == "i" and labels[0] >= 0 and labels[-1] < num_classes
        _require(bool(is_valid), "labels", f"must be integers from 0 to num_classes - 1 = {num_classes - 1}", labels)
    _require(num_classes != 0, "num_classes", "must be -1 or at least 1", state["num_classes"])
    classes = _groups(state, ("dim", "num_classes", "precision", "extractor", "labels"))
    _require(len(classes) == len(labels), "labels", f"must be as many as the classes, {len(classes)}", labels)
    for i in range(len(classes)):
        of_class = _group(classes, i)
        for key, expected in (("precision", precision), ("extractor", extractor)):
            found = _text(of_class, key)
            if found != expected:
                raise ValueError(f"'{i}/{key}' is {found!r}, but {key!r} is {expected!r}")
        if not all(key.partition("/")[0] in ("dim", "precision", "extractor", "0") for key in of_class):
            raise ValueError(f"class {i} must have one block")


def require_semidefinite(state: _State) -> None:
    """Check that each scatter among the entries, of any collector, is positive semidefinite up to rounding.

    In O(dim^3), so for files only.
    """
    for key, value in state.items():
        scatter = np.asarray(value)
        if not key.endswith("/scatter") or scatter.ndim != 2 or scatter.size == 0 or scatter.dtype.kind != "f":
            continue
        lower = np.tril(scatter.T)
        largest = np.abs(lower).max()
        if not 0 < largest < np.inf or len(scatter) != scatter.shape[1]:
            continue  # zero, or refused by the other checks
        lower /= largest
        norm = np.abs(lower).sum(axis=0).max() + np.abs(lower).sum(axis=1).max()  # at least the largest eigenvalue
        lower.flat[:: len(lower) + 1] += _ROUNDING * norm
        try:
            np.linalg.cholesky(lower)
        except np.linalg.LinAlgError:
            raise ValueError(f"{key!r} must be positive semidefinite") from None


def check_inception_score(state: _State) -> None:
    """Check the state of `InceptionScore`."""
    _require_only(state, ("counts", "probabilities", "information", "stream", "from_logits", "split_size"))
    probabilities = _numbers(state, "probabilities", "f", (None, None))
    splits, num_classes = probabilities.shape
    fits = num_classes > 0 and (splits > 0 or "split_size" in state)
    _require(fits, "probabilities", "must have splits and classes", probabilities)
    counts = _numbers(state, "counts", "iu", (splits,))
    information = _numbers(state, "information", "f", (splits,))
    _require(bool(np.all((counts >= 0) & (counts <= _MAX_COUNT))), "counts", "must not be negative", counts)
    # The sum of a row may differ from 1 by this, see `_metrics.predictions`; sums of many rows round by less.
    slack = 1.1 * (num_classes * np.finfo(np.float32).eps + 2.0**-8) * counts
    most = counts + slack
    is_share = (probabilities >= 0) & (probabilities <= most[:, np.newaxis])
    _require(bool(is_share.all()), "probabilities", "must be sums of probabilities", probabilities)
    fits = np.abs(probabilities.sum(axis=1) - counts) <= slack
    _require(bool(fits.all()), "probabilities", "must have the sums of counts over the classes", probabilities)
    fits = (information <= slack) & (information >= -most * math.log(num_classes) - slack)
    _require(bool(fits.all()), "information", f"must be from -counts log {num_classes} to 0", information)
    length, first, end = _numbers(state, "stream", "iu", (3,)).tolist()
    fits = first >= 0 and end >= first and (length == -1 or (length >= splits and end <= length))
    _require(fits, "stream", "must be a length of at least splits, or -1, and two ascending rows", state["stream"])
    if "split_size" in state:  # older states have none
        size, first_split = _numbers(state, "split_size", "iu", (2,)).tolist()
        fits = size > 0 and first_split >= 0 and length == -1
        _require(fits, "split_size", "must be a size above 0 and the number of a split", state["split_size"])
        rows = [min(size, end - (first_split + i) * size) for i in range(splits)]  # before the next one
        _require(all(np.asarray(counts <= rows)), "counts", f"must fit split_size = {size} and {end} rows", counts)
    if length >= 0:
        edges = [i * length // splits for i in range(splits + 1)]
        _require(bool(np.all(counts <= np.diff(edges))), "counts", f"must fit length = {length}", counts)
    _require(counts.sum() == 0 or end > first, "stream", "must have rows", state["stream"])
    from_logits = np.asarray(state["from_logits"])
    _require(from_logits.shape == () and from_logits.dtype.kind == "b", "from_logits", "must be a boolean", from_logits)


def check_collection(state: _State) -> None:
    """Check the state of an unfinished pass over images: moments, rows or a score of each of its extractors."""
    num_samples = _integer(state, "num_samples", least=1)
    _text(state, "extractors")
    parts = _groups(state, ("num_samples", "extractors", "indices", "names"))
    if "indices" in state:
        indices = _numbers(state, "indices", "i", (num_samples,))
        fits = bool(indices[0] >= 0 and np.all(indices[:-1] < indices[1:]))
        _require(fits, "indices", "must ascend from 0 or more without repetition", indices)
        names = _numbers(state, "names", "u", (None,))
        _require(names.dtype.itemsize == 1, "names", "must be bytes", names)
        texts = json.loads(names.tobytes())
        fits = isinstance(texts, list) and len(texts) == num_samples and all(isinstance(text, str) for text in texts)
        _require(fits, "names", f"must be a list of {num_samples} texts in JSON", names)
    for number, part in parts.items():
        if not number.isdecimal():
            raise ValueError(f"'{number}/...' is not an entry of such a state")
        of_part = _groups(part, ("rows",))
        if "rows" in part:
            _require("indices" in state, f"{number}/rows", "must have indices", part["rows"])
            _numbers(part, "rows", "f", (num_samples, None), f"{number}/")
        for name, entries in of_part.items():
            if name not in ("moments", "score"):
                raise ValueError(f"'{number}/{name}/...' is not an entry of such a state")
            (check_moments if name == "moments" else check_inception_score)(entries)
            found = _samples_of_moments(entries) if name == "moments" else int(entries["counts"].sum())
            if found != num_samples:
                raise ValueError(f"'{number}/{name}' holds {found} samples, but 'num_samples' is {num_samples}")


def _samples_of_moments(state: _State) -> int:
    """Number of rows in mean and scatter, and of rows that are pending."""
    rows = [len(value) for key, value in state.items() if key.endswith("_rows")]
    return sum(rows) + sum(int(value) for key, value in state.items() if key.endswith("/count"))


def check_ngrams(state: _State) -> None:
    """Check the state of `NgramCounts`, except that the n-grams are distinct."""
    _require_only(state, ("n", "level", "num_ngrams", "num_distinct", "words", "word_ends", "ngrams", "counts"))
    n = _integer(state, "n", least=1)
    level = _text(state, "level")
    total = _integer(state, "num_ngrams", most=2**63 - 1)
    distinct = _integer(state, "num_distinct")
    counts = _numbers(state, "counts", "u", (None,))
    _require(len(counts) == distinct, "num_distinct", f"must be the number of counts, {len(counts)}", distinct)
    ngrams = _numbers(state, "ngrams", "u", (distinct, n))
    words, ends = _numbers(state, "words", "u", (None,)), _numbers(state, "word_ends", "u", (None,))
    _require(words.dtype.itemsize == 1, "words", "must be bytes", words)
    _require(bool(counts.all()), "counts", "must be at least 1", counts)
    # The sum in integers may wrap around; that in floating point is right to 1e-9.
    close = abs(counts.sum(dtype=np.float64) - total) <= 1e-9 * total
    fits = close and int(counts.sum(dtype=np.uint64)) == total
    _require(fits, "counts", f"must have the sum 'num_ngrams', which is {total}", counts)
    limit = len(ends) if level == "word" else 0x110000
    _require(int(ngrams.max(initial=0)) < max(limit, 1), "ngrams", f"must be below {limit}", ngrams)
    _require(level == "word" or len(ends) == 0, "word_ends", f"must be empty at level {level!r}", ends)
    _require(len(ends) > 0 or distinct == 0 or level != "word", "word_ends", "must not be empty", ends)


def _check_block(block: _State, dim: int, prefix: str) -> None:
    missing = _ARRAYS_OF_BLOCK - {"product_errors"} - block.keys()  # older states have no product_errors
    if missing:
        raise KeyError(prefix + min(missing))
    unknown = block.keys() - _ARRAYS_OF_BLOCK
    if unknown:
        raise ValueError(f"{prefix + min(unknown)!r} is not an entry of such a state")
    count = _integer(block, "count", prefix)
    for key in ("narrow_rows", "wide_rows"):
        rows = _numbers(block, key, "f", (None, dim), prefix)
        # Rows are kept up to dim, and then until they are whole blocks.
        most = -(-dim // _core.ROWS_PER_BLOCK) * _core.ROWS_PER_BLOCK
        if len(rows) > most:
            raise ValueError(f"{prefix + key!r} has {len(rows)} rows, but at most {most} can be pending")
    if "product_errors" in block:
        errors = _numbers(block, "product_errors", "f", (None,), prefix)
        fits = len(errors) in (0, dim if count else 0) and bool(np.all(errors >= 0))
        _require(fits, prefix + "product_errors", f"must be {dim} numbers of at least 0, or empty", errors)
    if count == 0:
        for key, ndim in (("mean", 1), ("mean_low", 1), ("scatter", 2)):
            array = np.asarray(block[key])
            fits = array.size == 0 and array.ndim == ndim and array.dtype.kind == "f"
            _require(fits, prefix + key, "must be empty if count is 0", array)
        return
    _numbers(block, "mean", "f", (dim,), prefix)
    _numbers(block, "mean_low", "f", (dim,), prefix)
    scatter = np.asarray(block["scatter"])  # of which the upper triangle is used
    fits = scatter.shape == (dim, dim) and scatter.dtype.kind == "f"
    _require(fits, prefix + "scatter", f"must be floating-point numbers of shape {(dim, dim)}", scatter)
    variances = scatter.diagonal().astype(np.float64)
    _require(bool(np.isfinite(variances).all()), prefix + "scatter", "must be finite", scatter)
    slack = _ROUNDING * float(variances.max())
    _require(bool(variances.min() >= -slack), prefix + "scatter", "must have no negative diagonal", scatter)
    roots = np.sqrt(np.maximum(variances, 0))
    for i in range(0, dim, _SLICE):
        part = scatter[i : i + _SLICE, i:]
        with np.errstate(over="ignore"):
            bound = np.outer(roots[i : i + _SLICE], roots[i:])
            bound += slack
            fits = np.abs(part) <= bound
        fits[:, : len(part)] |= np.tri(len(part), k=-1, dtype=bool)
        _require(
            bool(fits.all()),
            prefix + "scatter",
            "must have no entry above the root of the product of its variances",
            scatter,
        )


def check_state(kind: str, state: _State) -> None:
    """Check the state of a collector of the class `kind`."""
    checks = {
        "Moments": check_moments,
        "ClassMoments": check_class_moments,
        "Collection": check_collection,
        "InceptionScore": check_inception_score,
        "NgramCounts": check_ngrams,
    }
    if kind not in checks:
        raise ValueError(f"the class of a checkpoint must be {', '.join(checks)}, got {kind[:50]!r}")
    checks[kind](state)


# Entries ------------------------------------------------------------------------------------------------------------


def _require(condition: bool, key: str, what: str, value: Any) -> None:
    if not condition:
        array = np.asarray(value)
        given = repr(array.tolist()) if array.size <= 4 else f"an array of shape {array.shape} and dtype {array.dtype}"
        raise ValueError(f"{key!r} {what}, got {given[:200]}")


def _require_only(state: _State, keys: Iterable[str]) -> None:
    unknown = set(state) - set(keys)
    if unknown:
        raise ValueError(f"{min(unknown)!r} is not an entry of such a state")


def _integer(state: _State, key: str, prefix: str = "", *, least: int = 0, most: int = _MAX_COUNT) -> int:
    value = np.asarray(state[key])
    fits = value.shape == () and value.dtype.kind in "iu" and least <= int(value) <= most
    _require(fits, prefix + key, f"must be an integer from {least} to {most}", value)
    return int(value)


def _text(state: _State, key: str) -> str:
    value = np.asarray(state[key])
    _require(value.shape == () and value.dtype.kind == "U", key, "must be text", value)
    return str(value)


def _numbers(state: _State, key: str, kinds: str, shape: Sequence[int | None], prefix: str = "") -> NDArray[Any]:
    """An array of the kinds of dtypes, finite, with the shape, in which None is any length."""
    array = np.asarray(state[key])
    fits = array.ndim == len(shape) and all(n in (m, None) for n, m in zip(shape, array.shape, strict=True))
    names = {"f": "floating-point numbers", "u": "unsigned integers", "i": "integers", "iu": "integers"}
    expected = f"must be {names[kinds]} of shape {tuple(shape)}".replace("None", "any")
    _require(fits and array.dtype.kind in kinds, prefix + key, expected, array)
    if kinds == "f":
        _require(bool(np.isfinite(array).all()), prefix + key, "must be finite", array)
    return array


def _groups(state: _State, single: tuple[str, ...]) -> dict[str, dict[str, NDArray[Any]]]:
    """The entries with "/", by the part before it; the others must be `single`."""
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in state.items():
        number, slash, name = key.partition("/")
        if slash:
            groups.setdefault(number, {})[name] = value
        elif key not in single:
            raise ValueError(f"{key!r} is not an entry of such a state")
    return groups


def _group(groups: Mapping[str, dict[str, NDArray[Any]]], number: int) -> dict[str, NDArray[Any]]:
    if str(number) not in groups:
        raise ValueError(f"it has {len(groups)} parts, but no entries '{number}/...'")
    return groups[str(number)]
