"""Opens the arguments of the public functions: arrays, tensors, files, moments and statistics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fidfast import _core
from fidfast._arguments import require_path, require_precision, shape_of_array
from fidfast._devices import to_host
from fidfast._files import (
    Content,
    Features,
    Rows,
    State,
    Stats,
    is_same_extractor,
    naming,
    read,
    read_object,
    reading_state,
)
from fidfast._masked import require_unmasked
from fidfast._results import Result
from fidfast._sources import is_image_source
from fidfast._stats import (
    NEGATIVE_TOLERANCE,
    GaussianStats,
    Moments,
    as_rows,
    require_tolerance,
    row_slices,
    stats_from_record,
)
from fidfast._warnings import warn_user

__all__ = ["Input", "open_input", "open_pair", "require_same_dim", "warn_of_extractors"]


#: Numbers that are converted to float64 at a time: 8 MiB.
_HASHED_NUMBERS = 2**20


class HasExtractor(Protocol):
    """Anything that has the name of an extractor."""

    @property
    def extractor(self) -> str | None: ...


class Input:
    """One argument, opened: features, moments or statistics. Errors name the argument.

    Exactly one of `rows`, `moments` and `stats` is given to the constructor.
    """

    def __init__(
        self,
        name: str,
        *,
        rows: Any = None,
        moments: Moments | None = None,
        stats: GaussianStats | None = None,
        extractor: str | None = None,
        precision: str = "float32",
        file: str | None = None,
        note: str | None = None,
    ) -> None:
        #: Name of the argument.
        self.name = name
        #: (n, dim) features, or None.
        self.rows = rows
        #: The given moments, or those of `rows` once they are needed.
        self.moments = moments
        #: Name of the extractor, or None if it is unknown.
        self.extractor = extractor
        #: What was read of a file that holds more, or None.
        self.note = note
        self._precision = precision
        self._file = file  # path and content, for messages
        self._stats = stats
        self._row_hashes: NDArray[np.int64] | None = None

    def with_content(
        self, *, rows: Any = None, moments: Moments | None = None, stats: GaussianStats | None = None
    ) -> Input:
        """The argument with other content, exactly one of the three."""
        return Input(
            self.name, rows=rows, moments=moments, stats=stats, extractor=self.extractor, precision=self._precision,
            file=self._file, note=self.note,
        )  # fmt: skip

    @property
    def stats(self) -> GaussianStats:
        """Mean and covariance: as given, or unbiased and computed once."""
        if self._stats is None:
            self._stats = self.stats_with(ddof=1)
        return self._stats

    def stats_with(self, *, ddof: int) -> GaussianStats:
        """Mean and covariance; `ddof` applies to features and moments."""
        if self.rows is None and self.moments is None:
            return self.stats
        try:
            if self.moments is None:
                self.moments = Moments.from_features(self.rows, precision=self._precision, extractor=self.extractor)
            return self.moments.stats(ddof=ddof)
        except (TypeError, ValueError) as error:
            raise _naming_argument(error, self.name) from error

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return self.stats.dim

    @property
    def num_samples(self) -> int | None:
        """Number of samples, or None if it is unknown."""
        return self.stats.num_samples

    @property
    def blocks(self) -> tuple[Moments, ...]:
        """The blocks with samples, if there are at least two."""
        blocks = () if self.moments is None else self.moments.blocks
        filled = tuple(block for block in blocks if block.num_samples > 0)
        return filled if len(filled) > 1 else ()

    @property
    def has_samples(self) -> bool:
        """Whether rows, or blocks of rows, can be left out."""
        return self.rows is not None or bool(self.blocks)

    def require_rows(self, caller: str) -> Any:
        """The features in host memory, or mapped there from a file; raises the errors of `check_rows`."""
        self.check_rows(caller)
        if isinstance(self.rows, Rows):
            try:
                self.rows = self.rows.mapped()
            except (TypeError, ValueError) as error:
                raise _naming_argument(error, self.name) from error
        self.rows = to_host(self.rows)
        return self.rows

    def check_rows(self, caller: str) -> None:
        """Check that the argument holds features.

        Raises
        ------
        TypeError, ValueError
            If it is an object, or a file, that holds moments or statistics.
        """
        reason = self.why_no_rows(caller)
        if reason is not None:
            raise (TypeError if self._file is None else ValueError)(reason)

    def why_no_rows(self, caller: str) -> str | None:
        """The message of `check_rows`, or None if the argument holds features."""
        if self.rows is not None:
            return None
        got = self._file or ("GaussianStats" if self.moments is None else "Moments")
        return f"{self.name}: {caller} needs the (n, dim) features themselves, got {got}"

    def finite_shape(self) -> tuple[int, int]:
        """Shape (n, dim) of the features; raises an error that names the argument unless all of them are finite."""
        if isinstance(self.rows, Rows):  # which are checked when they are read
            return self.rows.shape
        try:
            return _core.require_finite(self.rows)
        except (TypeError, ValueError) as error:
            raise _naming_argument(error, self.name) from None

    def slices(self) -> Iterator[Any]:
        """The features in slices of bounded size."""
        is_first_reading = isinstance(self.rows, Rows) and self._row_hashes is None
        return self._hashed(self._slices()) if is_first_reading else self._slices()

    def _slices(self) -> Iterator[Any]:
        shape = shape_of_array(self.rows)
        return row_slices(self.rows, shape[0] if len(shape) == 2 else self.num_samples or 0)

    def _hashed(self, slices: Iterator[Any]) -> Iterator[Any]:
        """The slices; their rows are hashed too, so that they need not be read again."""
        hashes = []
        for rows in slices:
            hashes.append(_hashes(rows))
            yield rows
        self._row_hashes = np.concatenate(hashes)

    def float64_slices(self) -> Iterator[NDArray[np.float64]]:
        """The features in slices of bounded size, as new arrays in host memory; errors name the argument."""
        first = 0
        for rows in map(to_host, self.slices()):
            try:
                n, _ = _core.require_finite(rows, first_row=first)
            except (TypeError, ValueError) as error:
                raise _naming_argument(error, self.name) from None
            yield _core.gather(rows, np.arange(n)).astype(np.float64)
            first += n

    @property
    def row_hashes(self) -> NDArray[np.int64]:
        """(n,) a hash of each row: equal for equal numbers of any type, and for 0 and -0."""
        if self._row_hashes is None:
            self._row_hashes = np.concatenate([_hashes(to_host(rows)) for rows in self._slices()])
        return self._row_hashes


def _hashes(rows: Any) -> NDArray[np.int64]:
    """A hash of each row. 64 bits: two sets of 100,000 rows have a wrong match with a probability of 1e-9."""
    n, dim = _core.require_finite(rows)
    hashes: list[int] = []
    step = max(1, _HASHED_NUMBERS // dim)
    for first in range(0, n, step):
        part = np.arange(first, min(first + step, n))
        values = _core.gather(rows, part).astype(np.float64) + 0.0  # -0 becomes 0
        hashes += [hash(row.tobytes()) for row in values]
    return np.array(hashes, dtype=np.int64)


def open_input(
    source: Any,
    name: str,
    *,
    precision: str = "float32",
    extractor: str | None = None,
    key: str | None = None,
    rows: bool = False,
    negative_tolerance: float = NEGATIVE_TOLERANCE,
) -> Input:
    """Open an argument.

    Parameters
    ----------
    source : array, tensor, path, Moments, GaussianStats, (mu, sigma), dictionary, ImageMoments, ImageFeatures,
        Features or Input
    name : str
        Name of the argument.
    precision : {"float32", "float64"}, default "float32"
        As in `Moments`, for features.
    extractor : str, optional
        Name of the extractor if the source has none. It chooses among the statistics of a file that holds those of
        several extractors.
    key : str, optional
        Chooses among several things in a file, as in `GaussianStats.load`.
    rows : bool, default False
        Whether to read the features of a file that holds statistics as well.
    negative_tolerance : float, default 1e-6
        As in `GaussianStats`, for statistics that are not `GaussianStats`.

    Raises
    ------
    FileNotFoundError
        If a path does not exist.
    TypeError, ValueError
        If a file cannot be used; the message names the argument.
    """
    if isinstance(source, Input):
        return source
    require_precision(precision)
    require_tolerance(negative_tolerance)
    require_unmasked(source, name)
    if source is None:
        raise TypeError(f"{name}: features must be an array or tensor (n, dim), got NoneType")
    if isinstance(source, (str, os.PathLike)):
        source = require_path(name, source)
    if isinstance(source, str) or hasattr(source, "__array__"):
        _refuse_images(source, name, key, rows)
    if isinstance(source, str):
        try:
            content = read(source, key=key, rows=rows, extractor=extractor)
            return _input_of_content(content, source, name, precision, extractor, negative_tolerance)
        except (TypeError, ValueError) as error:
            raise _naming_argument(error, name) from error
    if isinstance(source, GaussianStats):
        return Input(name, stats=source, extractor=source.extractor or extractor)
    if isinstance(source, Moments):
        return Input(name, moments=source, extractor=source.extractor or extractor)
    if isinstance(source, Result) and hasattr(source, "moments"):  # of moments_of_images
        return open_input(source.moments, name, precision=precision, extractor=extractor)
    if hasattr(source, "features") and hasattr(source, "extractor"):  # Features, and the results of extraction
        return Input(
            name, rows=_rows(source.features, name), extractor=source.extractor or extractor, precision=precision
        )
    is_pair = isinstance(source, (tuple, list)) and len(source) in (2, 3) and _is_pair(source)
    if isinstance(source, Mapping) or is_pair:
        try:
            return _input_of_record(read_object(source), name, precision, extractor, negative_tolerance)
        except (TypeError, ValueError) as error:
            raise _naming_argument(error, name) from error
    return Input(name, rows=_rows(source, name), extractor=extractor, precision=precision)


def _rows(features: Any, name: str) -> Any:
    """The features as `as_rows`; errors name the argument."""
    try:
        return as_rows(features)
    except (TypeError, ValueError) as error:
        raise _naming_argument(error, name) from None


def _refuse_images(source: Any, name: str, key: str | None, rows: bool) -> None:
    if not is_image_source(source, key=key, rows=rows):
        return
    is_path = isinstance(source, (str, os.PathLike))
    what = os.fspath(source) if is_path else f"an array of shape {shape_of_array(source)}"
    raise (ValueError if is_path else TypeError)(
        f"{name}: {what} holds images, not features: compute them with fidfast.torch.features_of_images, "
        "or their statistics with stats_of_images"
    )


def _is_pair(source: Any) -> bool:
    """Whether the items are arrays or tensors of the shapes of mu and sigma."""
    mean, covariance = map(shape_of_array, source[:2])
    return len(mean) == 1 and len(covariance) == 2


def _input_of_record(
    record: Stats | Features,
    name: str,
    precision: str,
    extractor: str | None,
    negative_tolerance: float,
    file: str | None = None,
) -> Input:
    extractor = record.extractor or extractor
    if isinstance(record, Features):
        return Input(name, rows=as_rows(record.features), extractor=extractor, precision=precision, note=record.note)
    stats = stats_from_record(replace(record, extractor=extractor), negative_tolerance)
    return Input(name, stats=stats, extractor=extractor, file=file, note=record.note)


def _input_of_content(
    content: Content, path: str, name: str, precision: str, extractor: str | None, negative_tolerance: float
) -> Input:
    if isinstance(content, State) and (content.kind != "Moments" or content.progress is not None):
        raise ValueError(f"{path} holds {content.what}, not statistics or features")
    holds = content.what if isinstance(content, State) else content.note or content.what
    file = f"{path}, which holds {holds}"
    with naming(path):
        if not isinstance(content, State):
            return _input_of_record(content, name, precision, extractor, negative_tolerance, file)
        with reading_state("Moments"):
            moments = Moments.from_state(content.entries)
        if moments.extractor is None and extractor is not None:
            moments.merge(Moments(moments.dim, extractor=extractor))  # adopts the name
        shards = ", ".join(str(part) for part in content.parts if part.shards > 1)
        return Input(name, moments=moments, extractor=moments.extractor, file=file, note=shards or None)


def _naming_argument(error: TypeError | ValueError, name: str) -> Exception:
    """The error with the argument's name before its message."""
    kind = TypeError if isinstance(error, TypeError) else ValueError  # subclasses have other constructors
    return kind(f"{name}: {error}")


def open_pair(
    samples: Any,
    reference: Any,
    names: tuple[str, str] = ("samples", "reference"),
    *,
    precision: str = "float32",
    rows: bool = True,
    negative_tolerance: float = NEGATIVE_TOLERANCE,
) -> tuple[Input, Input]:
    """Open the two arguments of a metric; warn if their extractors differ."""
    one, two = (
        open_input(source, name, precision=precision, rows=rows, negative_tolerance=negative_tolerance)
        for source, name in zip((samples, reference), names, strict=True)
    )
    if not (one is samples and two is reference):  # else the pair has been opened before
        warn_of_extractors(one, two)
    return one, two


def require_same_dim(dim1: int, dim2: int, name1: str, name2: str) -> None:
    """Raise a ValueError with both numbers if they differ."""
    if dim1 != dim2:
        raise ValueError(f"{name1} has dim {dim1}, but {name2} has dim {dim2}")


def warn_of_extractors(one_side: HasExtractor, other_side: HasExtractor) -> None:
    """Warn if the two inputs have different extractors."""
    one, two = one_side.extractor, other_side.extractor
    if not one or not two or one == two:
        return
    if not is_same_extractor(one, two):
        why = "the result is not meaningful"
    elif "/" in one and "/" in two:
        why = "part of the result is due to the different resize or arithmetic"
    else:
        return  # the same network, and one side has no details
    warn_user(f"the two inputs have different extractors, {one!r} and {two!r}: {why}")
