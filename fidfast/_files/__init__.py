"""Reading and writing of files of statistics, features and checkpoints."""

from fidfast._files.catalog import Catalog
from fidfast._files.extractors import is_same_extractor
from fidfast._files.folders import is_stats_folder
from fidfast._files.headers import StateHeader, read_header
from fidfast._files.items import Item
from fidfast._files.readers import (
    catalog_of,
    is_supported,
    naming,
    read,
    read_object,
    read_progress,
    read_state,
    reading,
    reading_state,
    require_tensors,
    state_of,
)
from fidfast._files.records import Content, Entries, Features, Progress, SourcePart, State, Stats
from fidfast._files.rows import MAX_IN_MEMORY, RowPart, Rows, rows_of_chunks
from fidfast._files.shards import find_shards
from fidfast._files.states import (
    check_class_moments,
    check_inception_score,
    check_moments,
    check_ngrams,
    require_semidefinite,
)
from fidfast._files.write import (
    TEMPORARY_NAME,
    npz_path,
    require_name,
    require_writable,
    write_several_stats,
    write_state,
    write_stats,
    write_whole,
)
from fidfast._files.zarr_arrays import is_zarr

__all__ = [
    "MAX_IN_MEMORY",
    "TEMPORARY_NAME",
    "Catalog",
    "Content",
    "Entries",
    "Features",
    "Item",
    "Progress",
    "RowPart",
    "Rows",
    "SourcePart",
    "State",
    "StateHeader",
    "Stats",
    "catalog_of",
    "check_class_moments",
    "check_inception_score",
    "check_moments",
    "check_ngrams",
    "find_shards",
    "is_same_extractor",
    "is_stats_folder",
    "is_supported",
    "is_zarr",
    "naming",
    "npz_path",
    "read",
    "read_header",
    "read_object",
    "read_progress",
    "read_state",
    "reading",
    "reading_state",
    "require_name",
    "require_semidefinite",
    "require_tensors",
    "require_writable",
    "rows_of_chunks",
    "state_of",
    "write_several_stats",
    "write_state",
    "write_stats",
    "write_whole",
]
