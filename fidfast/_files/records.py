"""The entries of a file, and its possible contents: statistics, features, or the state of a collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Union

import numpy as np
from numpy.typing import NDArray

from fidfast._results import Result
from fidfast._shards import Shard

__all__ = ["Content", "Entries", "Entry", "Features", "Progress", "SourcePart", "State", "Stats", "Tree"]

#: The state of an object as named arrays of numbers or strings.
Entries = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Entry:
    """An array or value of a file, which `load` reads."""

    shape: tuple[int, ...]
    #: NumPy's name of the dtype; "object" for anything that is not loaded.
    dtype: str
    load: Callable[[], Any]
    #: Returns the rows from a row on in blocks, without reading all at once; None if the format does not allow it.
    blocks: Callable[[int], Iterator[NDArray[Any]]] | None = None
    #: Name of the file in messages about `blocks`.
    file: str = ""
    #: Names of the columns if each is stored by itself; equal in all shards.
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.dtype} ({', '.join(map(str, self.shape))}{',' if len(self.shape) == 1 else ''})"


#: The entries of a file by key: nested like the dictionaries of a pickle, and with the key "" for a single array.
Tree = Mapping[str, Union[Entry, "Tree"]]


@dataclass(frozen=True)
class Stats:
    """Mean and covariance, and the metadata of the file."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    num_samples: int | None = None
    extractor: str | None = None
    ddof: int | None = None
    #: What was read if the file holds more, for example "statistics (the file also holds 10,000 images)".
    note: str | None = None
    #: (dim,), see `GaussianStats.product_errors`
    product_errors: NDArray[np.float64] | None = None

    what: ClassVar[str] = "statistics"


@dataclass(frozen=True)
class Features:
    """An (n, dim) array, perhaps a memory map."""

    features: Any
    extractor: str | None = None
    #: As in `Stats`.
    note: str | None = None

    what: ClassVar[str] = "features"


@dataclass(frozen=True)
class Progress:
    """How much of a run is done."""

    #: Identifies images, extractor and options; only the same run can continue from the checkpoint.
    job: str
    #: Number of images processed.
    done: int
    #: Messages about images that were skipped.
    skipped: Sequence[str] = ()

    def __post_init__(self) -> None:
        is_text = isinstance(self.job, str) and all(isinstance(message, str) for message in self.skipped)
        if not is_text or type(self.done) is not int or self.done < 0:
            raise ValueError(f"progress must have a job, a number of images and messages, got done={self.done!r}")


@dataclass(frozen=True)
class SourcePart(Result):
    """Which part of a source of images or features moments are of."""

    #: The part, from 1 to `shards`.
    shard: int
    #: Number of parts of the source; 1 for a complete source.
    shards: int
    #: Number of images or rows of the complete source.
    num_samples: int
    #: Hash of the names, or of shape and dtype, and of the content of a few images or rows of the complete source.
    source: str
    #: One message for each broken image of this part that was skipped.
    skipped: Sequence[str] = ()
    #: If the parts have at least this many rows, they begin at multiples of it: features do, at those of 1,024.
    multiple: int = 1

    def __post_init__(self) -> None:
        integers = (self.shard, self.shards, self.num_samples, self.multiple)
        fits = all(type(number) is int for number in integers) and 1 <= self.shard <= self.shards and self.multiple >= 1
        texts = (self.source, *self.skipped)
        if not (fits and self.num_samples >= 0 and all(isinstance(text, str) for text in texts)):
            raise ValueError(f"a part must have a shard, a source and messages, got shard {self.shard!r}")
        object.__setattr__(self, "skipped", tuple(self.skipped))

    @property
    def indices(self) -> range:
        """Indices of the images or rows of this part."""
        return Shard(self.shard, self.shards).range_of(self.num_samples, self.multiple)

    def __str__(self) -> str:
        first, stop = self.indices.start, self.indices.stop
        which = f"{first} to {stop - 1}" if stop > first else "none"
        return f"shard {self.shard}/{self.shards} ({which} of {self.num_samples} samples)"


@dataclass(frozen=True)
class State:
    """The state of a collector, and how much of a run is done if the run is unfinished."""

    #: Name of the collector's class.
    kind: str
    entries: Entries
    progress: Progress | None = None
    #: The parts of sources that the collector holds, if they are stored.
    parts: Sequence[SourcePart] = ()

    @property
    def what(self) -> str:
        if self.progress is not None:
            return f"a checkpoint of an unfinished run ({self.progress.done} images done)"
        return f"a checkpoint of {self.kind}"


Content = Stats | State | Features
