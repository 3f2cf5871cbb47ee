"""Moments of a stream of features, and the statistics that follow from them."""

from fidfast._stats.class_moments import ClassMoments, Label
from fidfast._stats.collector import Collector
from fidfast._stats.gaussian import (
    ACCEPT_ALL,
    NEGATIVE_TOLERANCE,
    GaussianStats,
    explain_overflow,
    on_common_device,
    record_of_stats,
    require_tolerance,
    scaled_stats,
    stats_from_core,
    stats_from_record,
)
from fidfast._stats.locks import Locked, atomic, holding
from fidfast._stats.moments import Moments
from fidfast._stats.packing import pack, pack_blocks, unpack, unpack_blocks
from fidfast._stats.several import save_stats
from fidfast._stats.slices import ROWS_PER_SLICE, as_rows, row_slices

__all__ = [
    "ACCEPT_ALL",
    "NEGATIVE_TOLERANCE",
    "ROWS_PER_SLICE",
    "ClassMoments",
    "Collector",
    "GaussianStats",
    "Label",
    "Locked",
    "Moments",
    "as_rows",
    "atomic",
    "explain_overflow",
    "holding",
    "on_common_device",
    "pack",
    "pack_blocks",
    "record_of_stats",
    "require_tolerance",
    "row_slices",
    "save_stats",
    "scaled_stats",
    "stats_from_core",
    "stats_from_record",
    "unpack",
    "unpack_blocks",
]
