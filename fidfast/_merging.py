"""Moments of all parts of one or more sources."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from fidfast import _core
from fidfast._arguments import (
    require_bool,
    require_path,
    require_sequence,
)
from fidfast._files import (
    SourcePart,
    StateHeader,
    naming,
    read_header,
    reading_state,
    require_semidefinite,
)
from fidfast._parts import SUFFIX, SourceMoments
from fidfast._progress import progress_bar
from fidfast._stats import ClassMoments, Moments

__all__ = ["merge_parts"]

#: Number of moments that are added to one sum before it is added to the next, so that few sums are in memory.
_FAN_IN = 32

#: Files that are read at a time: their checksums and checks take longer than adding them.
_READERS = 2

#: Missing shards that a message lists.
_LISTED = 20

_KINDS: dict[str, type[Moments] | type[ClassMoments]] = {"Moments": Moments, "ClassMoments": ClassMoments}


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
    Moments merge exactly (Chan, Golub & LeVeque 1979), so the result is that of one process, within 1e-12 relative.
    This includes float32 products: parts of features begin where one process begins a block of 1,024 rows, and products
    of images are float64 by default.
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
    count, multiple = parts[0][0].shards, parts[0][0].multiple
    if all((part.shards, part.multiple) == (count, multiple) for part, _ in parts):
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
    """The sum, as a tree of sums of `_FAN_IN` each, of which one on each level is in memory.

    Parts of fewer rows than a block hold the rows themselves: these are added in order, as in one process.
    """
    sums: list[tuple[Any, int]] = []
    for one in every:
        if sums and sums[0][1] > 0 and one.num_samples < _core.ROWS_PER_BLOCK:
            sums[0][0].merge(one)
            continue
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
