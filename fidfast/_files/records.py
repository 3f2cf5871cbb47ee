"""The entries of a file, and its possible contents: statistics, features, or the state of a collector."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Union

import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Entries", "Entry", "Features", "Progress", "State", "Stats", "Tree"]

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
class State:
    """The state of a collector, and how much of a run is done if the run is unfinished."""

    #: Name of the collector's class.
    kind: str
    entries: Entries
    progress: Progress | None = None

    @property
    def what(self) -> str:
        if self.progress is not None:
            return f"a checkpoint of an unfinished run ({self.progress.done} images done)"
        return f"a checkpoint of {self.kind}"


Content = Stats | State | Features
