"""Moments of the parts of a source, and of all parts together."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from fidfast._arguments import (
    as_array,
    optional,
    require_bool,
    require_path,
    require_sequence,
    require_text,
    shape_of_array,
)
from fidfast._devices import to_host
from fidfast._files import (
    SourcePart,
    State,
    StateHeader,
    naming,
    read_header,
    reading_state,
    require_semidefinite,
    write_state,
)
from fidfast._inputs import Input, open_input
from fidfast._progress import progress_bar
from fidfast._results import Result
from fidfast._shards import Shard, sampled
from fidfast._stats import ClassMoments, Moments
from fidfast._text import printable

__all__ = [
    "SUFFIX",
    "SourceMoments",
    "merge_parts",
    "moments_of_features",
    "moments_of_input",
    "require_divisible",
    "save_parts",
]

#: End of the names of files of moments.
SUFFIX = ".moments.npz"

#: Number of moments that are added to one sum before it is added to the next, so that few sums are in memory.
_FAN_IN = 32

#: Files that are read at a time: their checksums and checks take longer than adding them.
_READERS = 2

#: Missing shards that a message lists.
_LISTED = 20

_KINDS: dict[str, type[Moments] | type[ClassMoments]] = {"Moments": Moments, "ClassMoments": ClassMoments}


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


# One part -----------------------------------------------------------------------------------------------------------


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
        Part ``"K/N"``, K from 1 to N: the rows from ``n * (K - 1) // N`` to ``n * K // N``. By default all rows.
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
    indices = part.range_of(n)
    rows = source.rows if hasattr(source.rows, "__getitem__") else to_host(source.rows)
    if len(indices) < n:
        rows = rows[indices.start : indices.stop]
    try:
        moments = Moments.from_features(rows, precision=precision, extractor=source.extractor)
    except ValueError as error:
        which = f" (rows are numbered from the first of shard {part}, row {indices.start})" if indices.start else ""
        raise ValueError(f"{source.name}: {error}{which}") from error
    return SourceMoments(moments, [], (SourcePart(part.number, part.parts, n, _digest_of_rows(source.rows, n, dim)),))


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


# All parts ----------------------------------------------------------------------------------------------------------


def merge_parts(paths: Any, *, progress: bool = False) -> SourceMoments:
    """Moments of all parts of one or more sources, from files.

    Everything is checked before the matrices are read. The files are added in the order of the parts, so that the
    result does not depend on the order of `paths`, and at most log32(n) + 4 of them are in memory at a time.

    Parameters
    ----------
    paths : path, or sequence of paths
        Files that `SourceMoments.save`, `fidfast.torch.ImageMoments.save` or ``fidfast stats SOURCE OUT.moments.npz``
        wrote, in any order; also of `Moments.save` and `ClassMoments.save`, which are parts of no source. Of a folder,
        the files whose names end in ``.moments.npz``.
    progress : bool, default False
        Whether to show a progress bar.

    Returns
    -------
    SourceMoments

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    TypeError, ValueError
        If a file is damaged, unfinished or holds no moments; if files differ in extractor (with its resize), dim,
        precision or blocks; if two hold the same or overlapping parts; or if parts of a source are missing. The message
        names the files and the missing shards.

    Notes
    -----
    Moments merge exactly (Chan, Golub & LeVeque 1979), so the result is that of one process, within 1e-12 relative if
    the features are float64 or ``precision="float64"``.
    """
    progress = require_bool("progress", progress)
    headers = sorted((read_header(path, list(_KINDS)) for path in _files_of(paths)), key=_rank)
    _require_equal_settings(headers)
    _require_all_parts(headers)
    kind = _KINDS[headers[0].kind]
    with progress_bar(len(headers), progress, unit="files") as bar:
        moments = _sum_of(_loaded(headers, kind, lambda: bar.update(1)))
    _require_valid(moments, headers)
    skipped = [message for header in headers for part in header.parts for message in part.skipped]
    return SourceMoments(moments, skipped, _complete(part for header in headers for part in header.parts))


def _files_of(paths: Any) -> list[str]:
    """The files in order, and those in folders."""
    single = isinstance(paths, (str, os.PathLike))
    files: list[str] = []
    for number, path in enumerate([paths] if single else require_sequence("paths", paths)):
        path = require_path("paths" if single else f"paths[{number}]", path)
        if os.path.isdir(path):
            inside = sorted(str(file) for file in Path(path).iterdir() if file.name.endswith(SUFFIX))
            if not inside:
                raise ValueError(f"the folder {path} holds no file whose name ends in {SUFFIX}")
            files += inside
        else:
            files.append(path)
    if not files:
        raise ValueError("paths must contain at least 1 file, got 0")
    return files


def _rank(header: StateHeader) -> Any:
    """The order in which files are added, which does not depend on their names."""
    return min(((part.source, part.indices.start, part.shard) for part in header.parts), default=("", 0, 0)), (
        header.content
    )


def _require_equal_settings(headers: Sequence[StateHeader]) -> None:
    first = headers[0]
    for other in headers[1:]:
        if other.kind != first.kind:
            raise ValueError(f"{first.path} holds {first.kind}, but {other.path} holds {other.kind}")
        for name in sorted(first.settings.keys() | other.settings.keys(), key=lambda name: (name != "extractor", name)):
            one, two = (header.settings.get(name, "none") for header in (first, other))
            if one != two:
                raise ValueError(
                    f"{first.path} has {name} {one}, but {other.path} has {name} {two}: merge files of equal {name}"
                )


def _require_all_parts(headers: Sequence[StateHeader]) -> None:
    """Check that no part is there twice, and none is missing."""
    seen: dict[str, StateHeader] = {}
    sources: dict[tuple[str, int], list[tuple[SourcePart, str]]] = {}
    for header in headers:
        same = seen.setdefault(header.content, header)
        if same is not header and not (
            same.parts and header.parts
        ):  # parts of equal rows, or without rows, may be equal
            raise ValueError(f"{same.path} and {header.path} hold the same moments: pass one of them")
        for part in header.parts:
            sources.setdefault((part.source, part.num_samples), []).append((part, header.path))
    missing = []
    for parts in sources.values():
        parts.sort(key=lambda one: (one[0].indices.start, one[0].indices.stop, one[0].shards, one[0].shard))
        for (part, path), (following, other) in pairwise(parts):
            if (part.shard, part.shards) == (following.shard, following.shards):
                raise ValueError(f"{path} and {other} both hold {part} of one source: pass one of them")
        for (part, path), (following, other) in pairwise(one for one in parts if one[0].indices):
            if part.indices.stop > following.indices.start:
                raise ValueError(f"{path} holds {part} and {other} {following} of one source, which overlap")
        if absent := _absent(parts):
            missing.append(f"missing {absent} of the source of {parts[0][1]}")
    if missing and len(sources) > 1:
        firsts = ", ".join(f"{path} holds {part}" for ((part, path), *_) in list(sources.values())[:3])
        raise ValueError(
            f"the files are of {len(sources)} sources, which differ in names, number or content ({firsts}): "
            f"{'; '.join(missing[:3])}"
        )
    if missing:
        raise ValueError(f"{missing[0]}: compute them, each with its --shard, or pass their files")


def _absent(parts: Sequence[tuple[SourcePart, str]]) -> str:
    """The shards that are missing: "3/64, 7/64 to 9/64"; of parts of different sizes, the samples; else empty."""
    total = parts[0][0].num_samples
    count = parts[0][0].shards
    if all(part.shards == count for part, _ in parts):
        numbers = [0, *(part.shard for part, _ in parts), count + 1]
        gaps = [(one + 1, two - 1) for one, two in pairwise(sorted(numbers)) if two > one + 1]
        texts = [f"{a}/{count}" if a == b else f"{a}/{count} to {b}/{count}" for a, b in gaps]
    else:
        ranges = [range(0), *(part.indices for part, _ in parts), range(total, total)]
        gaps = [(one.stop, two.start - 1) for one, two in pairwise(ranges) if two.start > one.stop]
        texts = [f"samples {a} to {b} of {total}" for a, b in gaps]
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more


def _complete(parts: Iterable[SourcePart]) -> tuple[SourcePart, ...]:
    """One part for each source, all parts of which are given."""
    sources: dict[tuple[str, int], list[str]] = {}
    for part in parts:
        sources.setdefault((part.source, part.num_samples), []).extend(part.skipped)
    return tuple(SourcePart(1, 1, total, source, skipped) for (source, total), skipped in sources.items())


def _loaded(
    headers: Sequence[StateHeader], kind: type[Moments] | type[ClassMoments], done: Callable[[], None]
) -> Iterator[Any]:
    """The moments of the files in order; the next files are read while one is merged."""

    def load(header: StateHeader) -> Moments | ClassMoments:
        entries = header.load()
        with naming(header.path), reading_state(header.kind):
            return kind.from_state(entries)

    with ThreadPoolExecutor(_READERS) as readers:
        remaining = iter(headers)
        loading = deque(readers.submit(load, header) for header in islice(remaining, _READERS))
        while loading:
            moments = loading.popleft().result()
            loading.extend(readers.submit(load, header) for header in islice(remaining, 1))
            yield moments
            del moments  # before the next one is there
            done()


def _sum_of(every: Iterable[Any]) -> Any:
    """The sum, as a tree of sums of `_FAN_IN` each, of which one on each level is in memory."""
    sums: list[tuple[Any, int]] = []
    for one in every:
        for level in range(len(sums) + 1):
            if level == len(sums):
                sums.append((one, 1))
                break
            total, number = sums[level]
            if number == 0:
                sums[level] = one, 1
                break
            total.merge(one)
            sums[level] = total, number + 1
            if number + 1 < _FAN_IN:
                break
            one, sums[level] = total, (None, 0)
    total = None
    for one, number in sums:
        if number > 0:
            if total is not None:
                one.merge(total)
            total = one
    return total


def _require_valid(moments: Moments | ClassMoments, headers: Sequence[StateHeader]) -> None:
    """Check that the scatters are semidefinite: sums of those that are. In O(dim^3), so not for each file."""
    try:
        require_semidefinite(moments.state())
    except ValueError as error:
        which = headers[0].path if len(headers) == 1 else f"one of {len(headers)} files, {headers[0].path} and others,"
        raise ValueError(f"{which} is damaged: of the merged moments, {error}") from None
