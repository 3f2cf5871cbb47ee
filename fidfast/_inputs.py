"""What the public functions take: features or statistics, as arrays, objects or files."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any, Protocol

from fidfast import _devices as devices
from fidfast._files import formats
from fidfast._stats.gaussian import GaussianStats
from fidfast._stats.moments import Moments

__all__ = ["as_features", "as_stats", "is_inception", "require_same_dim", "stats_of_file", "warn_of_extractors"]


class Named(Protocol):
    """Anything that knows its extractor."""

    @property
    def extractor(self) -> str | None: ...


def as_stats(source: Any, name: str, precision: str) -> GaussianStats:
    """The statistics of anything that `fid` takes; errors name the argument."""
    if isinstance(source, GaussianStats):
        return source
    try:
        if isinstance(source, (str, os.PathLike)):
            return stats_of_file(source, precision)
        moments = source if isinstance(source, Moments) else Moments._of_features(source, precision)
        return moments.stats()
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def stats_of_file(
    path: str | os.PathLike[str], precision: str, extractor: str | None = None, ddof: int = 1
) -> GaussianStats:
    """The statistics that a file holds, or those of the features in it; `extractor` where the file names none."""
    content = formats.read(path)
    if isinstance(content, formats.State):
        raise ValueError(f"{os.fspath(path)} holds {content.what}, not statistics or features")
    known = content.extractor or extractor
    with formats.naming(path):
        if isinstance(content, formats.Stats):
            return GaussianStats._of_file(replace(content, extractor=known))
        if isinstance(content, formats.Checkpoint):
            if content.progress is not None:
                raise ValueError(f"a run that has not come to its end, after {content.progress.done} images")
            return Moments._of_blocks(content.blocks, known).stats(ddof)
        return Moments._of_features(content.features, precision, known).stats(ddof)


def as_features(source: Any, name: str, caller: str) -> formats.Features:
    """The rows of anything that holds them; errors name the argument, and statistics are one."""
    why = f"{caller} needs the features themselves, which mean and covariance do not determine"
    if isinstance(source, (Moments, GaussianStats)):
        raise TypeError(f"{name}: {why}, got {type(source).__name__}")
    if not isinstance(source, (str, os.PathLike)):
        return formats.Features(devices.on_host(source))
    try:
        content = formats.read(source)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not isinstance(content, formats.Features):
        raise ValueError(f"{name}: {why}, but {os.fspath(source)} holds {content.what}")
    return content


def require_same_dim(dim1: int, dim2: int, name1: str, name2: str) -> None:
    """Raises a ValueError with both numbers where they differ."""
    if dim1 != dim2:
        raise ValueError(f"{name1} has dim {dim1}, but {name2} has dim {dim2}")


def is_inception(extractor: str | None) -> bool:
    """Whether this is the network whose Fréchet distance is called FID, whatever the resize before it."""
    return extractor is not None and extractor.split("/")[0] in ("inception", "inception-2015-12-05")


def warn_of_extractors(one_side: Named, other_side: Named, stacklevel: int) -> None:
    """Where the two sides' networks differ."""
    one, two = one_side.extractor, other_side.extractor
    if not one or not two or one == two:
        return
    if one.split("/")[0] != two.split("/")[0]:
        why = "their distance says nothing about the data"
    elif "/" in one and "/" in two:
        why = "part of their distance is that between the resizes or arithmetics"
    else:
        return  # the same network, and one side does not say more
    warnings.warn(f"the statistics come from different extractors, {one!r} and {two!r}: {why}", stacklevel=stacklevel)
