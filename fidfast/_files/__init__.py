"""Reading and writing of files of statistics, features and checkpoints."""

from fidfast._files.catalog import Catalog
from fidfast._files.readers import (
    catalog_of,
    is_supported,
    naming,
    read,
    read_object,
    read_progress,
    read_state,
    reading_state,
)
from fidfast._files.records import Content, Entries, Features, Progress, State, Stats
from fidfast._files.write import (
    TEMPORARY_NAME,
    npz_path,
    require_name,
    require_writable,
    write_state,
    write_stats,
    write_whole,
)

__all__ = [
    "TEMPORARY_NAME",
    "Catalog",
    "Content",
    "Entries",
    "Features",
    "Progress",
    "State",
    "Stats",
    "catalog_of",
    "is_supported",
    "naming",
    "npz_path",
    "read",
    "read_object",
    "read_progress",
    "read_state",
    "reading_state",
    "require_name",
    "require_writable",
    "write_state",
    "write_stats",
    "write_whole",
]
