"""Moments of a source of features, or of one part of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fidfast import _core
from fidfast._arguments import (
    as_array,
    optional,
    require_path,
    require_text,
    shape_of_array,
)
from fidfast._devices import to_host
from fidfast._files import (
    SourcePart,
    State,
    write_state,
)
from fidfast._inputs import Input, open_input
from fidfast._results import Result
from fidfast._shards import Shard, sampled
from fidfast._stats import ROWS_PER_SLICE, ClassMoments, Moments
from fidfast._text import printable

__all__ = [
    "SUFFIX",
    "SourceMoments",
    "moments_of_features",
    "moments_of_input",
    "require_divisible",
    "save_parts",
]

#: End of the names of files of moments.
SUFFIX = ".moments.npz"


@dataclass(frozen=True, eq=False)
class SourceMoments(Result):
    """Moments, and the parts of sources that they are of; returned by `moments_of_features` and `merge_parts`."""

    #: `ClassMoments` if the merged files hold them.
    moments: Moments | ClassMoments
    #: One message for each broken image that was skipped.
    skipped: list[str]
    #: The parts; a complete source is one part. Of merged files without them, none.
    parts: Sequence[SourcePart]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments and their parts, which `merge_parts` checks; `Moments.load` reads the moments.

        Parameters
        ----------
        path : path
            ``.npz`` is appended if the name does not end in it. The file is written atomically.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        save_parts(path, self.moments, self.parts)

    def __str__(self) -> str:
        moments, parts = self.moments, "".join(f", {part}" for part in self.parts)
        extractor = printable(moments.extractor or "unknown")
        return f"{moments.num_samples} samples, {moments.dim} features of {extractor}{parts}"

    def to_dict(self) -> dict[str, Any]:
        """Numbers that describe the moments, `skipped` and `parts`, in JSON types."""
        moments = self.moments
        return {
            "num_samples": moments.num_samples,
            "dim": moments.dim,
            "extractor": moments.extractor,
            "precision": moments.precision,
            "skipped": list(self.skipped),
            "parts": [part.to_dict() for part in self.parts],
        }


def save_parts(path: str | os.PathLike[str], moments: Moments | ClassMoments, parts: Sequence[SourcePart]) -> None:
    """Write moments and the parts of sources that they are of."""
    write_state(require_path("path", path), State(type(moments).__name__, moments.state(), parts=parts))


def moments_of_features(
    features: Any,
    *,
    shard: str | None = None,
    precision: str = "float32",
    extractor: str | None = None,
    key: str | None = None,
) -> SourceMoments:
    """Moments of features, or of one part of their rows.

    Parameters
    ----------
    features : (n, dim) array or tensor, or path
        As in `Moments.update`, or a file of features. A memory map is read in slices.
    shard : str, optional
        Part ``"K/N"``, K from 1 to N: the rows from ``n * (K - 1) // N`` to ``n * K // N``, both rounded up to a
        multiple of 1,024, except in parts of fewer rows. By default all rows.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`.
    extractor : str, optional
        Name of the network that computed the features, if the file does not hold it.
    key : str, optional
        Key of the features in a file of several arrays.

    Returns
    -------
    SourceMoments
        `SourceMoments.save` writes it for `merge_parts`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    TypeError, ValueError
        If there are no features: moments and statistics cannot be split.

    Examples
    --------
    >>> import numpy as np, fidfast
    >>> features = np.random.default_rng(0).normal(size=(10, 4))
    >>> parts = [fidfast.moments_of_features(features, shard=f"{k}/3") for k in (1, 2, 3)]
    >>> [part.moments.num_samples for part in parts]
    [3, 3, 4]
    """
    optional(require_text, "key", key)
    opened = open_input(features, "features", precision=precision, extractor=extractor, key=key, rows=True)
    return moments_of_input(opened, shard, precision, "moments_of_features")


def moments_of_input(source: Input, shard: str | None, precision: str, caller: str) -> SourceMoments:
    """As `moments_of_features`, of an argument that is open; `caller` is for messages."""
    part = Shard(1, 1) if shard is None else Shard.from_text("shard", shard)
    require_divisible(source, caller)
    n, dim = _shape_of(source)
    indices = part.range_of(n, _core.ROWS_PER_BLOCK)
    rows = source.rows
    if not hasattr(rows, "__getitem__"):
        source.finite_shape()  # raises an error that names the argument, whatever the library of the array raises
        rows = np.from_dlpack(to_host(rows))
    moments = Moments(max(dim, 1), precision=precision, extractor=source.extractor)
    try:
        for first in range(indices.start, indices.stop, ROWS_PER_SLICE):
            _update(moments, rows[first : min(first + ROWS_PER_SLICE, indices.stop)], first)
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{source.name}: {error}") from error
    digest = _digest_of_rows(rows, n, dim)
    found = SourcePart(part.number, part.parts, n, digest, multiple=_core.ROWS_PER_BLOCK)
    return SourceMoments(moments, [], (found,))


def _update(moments: Moments, rows: Any, first: int) -> None:
    """Add rows, the first of which has the number `first`, for messages."""
    try:
        moments.update(rows)
    except ValueError:
        _core.require_finite(to_host(rows), first_row=first, for_moments=True)
        raise


def require_divisible(source: Input, caller: str) -> None:
    """Raise a TypeError or ValueError unless an argument holds features, whose rows can be divided into parts."""
    try:
        source.check_rows(caller)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error}; statistics and moments cannot be split") from None


def _shape_of(source: Input) -> tuple[int, int]:
    shape = shape_of_array(source.rows)
    if len(shape) != 2:
        shape = source.finite_shape()
    return shape[0], shape[1]


def _digest_of_rows(rows: Any, n: int, dim: int) -> str:
    """Hash of the shape and of evenly spaced rows, equal for equal numbers of any dtype."""
    digest = hashlib.blake2b(f"features {n} {dim}".encode(), digest_size=16)
    for index in sampled(n):
        row = as_array("features", to_host(rows[index : index + 1]))
        digest.update(row.astype("<f8").tobytes())
    return digest.hexdigest()
