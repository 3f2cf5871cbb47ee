"""Makes the package `benchmarks` importable, and not the source tree's uncompiled `fidfast`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
import benchmarks  # noqa: F401  # removes the entry again
