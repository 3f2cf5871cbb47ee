"""Functions with the names, arguments and results of other tools, computed by fidfast.

>>> from fidfast.compat import calculate_frechet_distance
>>> round(calculate_frechet_distance([0, 0], [[1, 0], [0, 1]], [1, 0], [[4, 0], [0, 1]]), 6)
2.0

The submodules `pytorch_fid`, `torch_fidelity`, `cleanfid` and `evaluator` (of guided-diffusion) hold the names of one
tool each, so that a script needs no other change than its import. What differs in the numbers is in docs/migrating.md.
"""

import importlib as _importlib
import inspect as _inspect
from typing import Any

from fidfast.compat._distance import calculate_frechet_distance
from fidfast.compat.cleanfid import compute_fid, compute_kid
from fidfast.compat.torch_fidelity import calculate_metrics

__all__ = ["calculate_frechet_distance", "calculate_metrics", "compute_fid", "compute_kid"]


def __getattr__(name: str) -> Any:
    # Imported on access: `python -m fidfast.compat.evaluator` must not find its module imported already.
    if name in ("evaluator", "pytorch_fid"):
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


for _name in __all__:
    if _inspect.isfunction(globals()[_name]):
        globals()[_name].__module__ = __name__
