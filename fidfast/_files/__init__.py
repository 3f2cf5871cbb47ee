"""Reading and writing of files of statistics, features and checkpoints."""

from fidfast._files.readers import naming, read, read_state, reading_state
from fidfast._files.records import Content, Entries, Features, Progress, State, Stats
from fidfast._files.write import require_writable, write_state, write_stats, write_whole

__all__ = [
    "Content",
    "Entries",
    "Features",
    "Progress",
    "State",
    "Stats",
    "naming",
    "read",
    "read_state",
    "reading_state",
    "require_writable",
    "write_state",
    "write_stats",
    "write_whole",
]
