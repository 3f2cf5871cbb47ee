"""The possible contents of a file: statistics, features, or the state of a collector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Content", "Entries", "Features", "Progress", "State", "Stats"]

#: The state of an object as named arrays of numbers or strings.
Entries = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Stats:
    """Mean and covariance, and the metadata of the file."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    num_samples: int | None = None
    extractor: str | None = None
    ddof: int | None = None
    #: (dim,), see `GaussianStats.product_errors`
    product_errors: NDArray[np.float64] | None = None

    what: ClassVar[str] = "statistics"


@dataclass(frozen=True)
class Features:
    """An (n, dim) array, perhaps a memory map."""

    features: Any
    extractor: str | None = None

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
