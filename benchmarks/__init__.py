"""Speed and accuracy, compared with other tools in one process."""

import sys
from pathlib import Path

# `python -m benchmarks...` puts the source tree first, where nothing is compiled; measure the installed package.
_ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]
