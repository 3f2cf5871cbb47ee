"""How fast and how accurate, beside the field's other tools, in one process and session."""

import sys
from pathlib import Path

# `python -m benchmarks...` puts the source tree first, where nothing is compiled; the installed package is measured.
_ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]
