"""Description of the content of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fidfast._files import Features, State, naming, read
from fidfast._results import Result
from fidfast._stats import ACCEPT_ALL, Moments, stats_from_record

__all__ = ["FileInfo", "file_info"]


@dataclass(frozen=True)
class FileInfo(Result):
    """The content of a file; returned by `file_info`."""

    file: str
    #: "features", "statistics" or, for example, "a checkpoint of Moments".
    holds: str
    #: Further properties by name. All have ``extractor`` if it can be stored. Features: ``shape`` and ``dtype``.
    #: Statistics: ``dim``, ``num_samples``, ``ddof``, ``trace`` of the covariance, ``dead_units``, the number of
    #: columns with zero variance, and ``least_eigenvalue`` if other functions need a `negative_tolerance`. A checkpoint
    #: of Moments: ``dim``, ``num_samples``, ``precision``, and ``images_done`` if its run is unfinished. Other
    #: checkpoints: their settings. None if unknown.
    properties: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """File, holds and all properties by name."""
        return {"file": self.file, "holds": self.holds, **self.properties}

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {'unknown' if value is None else value}" for name, value in self.properties.items())
        return f"{self.file}: {self.holds}, {shown}"


def file_info(path: str | os.PathLike[str]) -> FileInfo:
    """Describe a file of features, statistics or a checkpoint.

    Parameters
    ----------
    path : path
        Any file that `fid` accepts, or a checkpoint of a class with ``save``.

    Returns
    -------
    FileInfo

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged or of an unknown kind.
    """
    content = read(path)
    with naming(path):
        return FileInfo(os.fspath(path), content.what, _properties(content))


def _properties(content: Any) -> dict[str, Any]:
    if isinstance(content, Features):
        shape, dtype = list(content.features.shape), str(content.features.dtype)
        return {"shape": shape, "dtype": dtype, "extractor": content.extractor}
    if isinstance(content, State) and content.kind == "Moments":
        moments = Moments.from_state(content.entries)
        return {
            "dim": moments.dim,
            "num_samples": moments.num_samples,
            "precision": moments.precision,
            "extractor": moments.extractor,
            **({} if content.progress is None else {"images_done": content.progress.done}),
        }
    if isinstance(content, State):
        return {key: value.item() for key, value in content.entries.items() if value.ndim == 0 and "/" not in key}
    stats = stats_from_record(content, ACCEPT_ALL)
    variances = stats.sigma.diagonal()
    return {
        "dim": stats.dim,
        "num_samples": stats.num_samples,
        "ddof": stats.ddof,
        "extractor": stats.extractor,
        "trace": float(variances.sum()),
        "dead_units": int((variances == 0).sum()),
        **({} if stats.caution is None else {"least_eigenvalue": stats.least_eigenvalue}),
    }
