"""Statistics of several extractors in one file."""

from __future__ import annotations

import os
from collections.abc import Mapping

from fidfast._arguments import require_instance, require_mapping, require_path, require_text
from fidfast._files import write_several_stats
from fidfast._stats.gaussian import GaussianStats, record_of_stats

__all__ = ["save_stats"]


def save_stats(path: str | os.PathLike[str], stats: Mapping[str, GaussianStats]) -> None:
    """Write the statistics of several extractors to one ``.npz``.

    Parameters
    ----------
    path : path
        ``.npz`` is appended if the name does not end in it. The file is written atomically.
    stats : mapping of str to GaussianStats
        By name, for example from `fidfast.torch.stats_by_extractor`. The first are stored as by `GaussianStats.save`,
        so that other FID tools can read them. ``key="name"`` (``--key name``) chooses others.

    Raises
    ------
    TypeError, ValueError
        If there are no statistics, or a name cannot be used.
    OSError
        If the file cannot be written.
    """
    path = require_path("path", path)
    for name, one in require_mapping("stats", stats).items():
        require_text("a name in stats", name)
        require_instance(f"stats[{name!r}]", one, GaussianStats)
    write_several_stats(path, {name: record_of_stats(one) for name, one in stats.items()})
