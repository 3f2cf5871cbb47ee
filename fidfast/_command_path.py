"""Removes the current folder from the module path of ``python -m fidfast``, when it is imported.

Python puts that folder first, where a file ``torch.py`` or ``json.py`` would replace the module.
"""

import os
import sys

__all__: list[str] = []


def _is_command() -> bool:
    """Whether `runpy`, which has set the first argument to ``-m``, imports this package to run it."""
    if sys.argv[:1] != ["-m"] or sys.flags.isolated or getattr(sys.flags, "safe_path", False):
        return False
    module = sys.orig_argv[-len(sys.argv)].rpartition("-m")[2]  # of "-m module" or "-mmodule"
    return module.partition(".")[0] == "fidfast"


if _is_command() and sys.path[:1] == [os.getcwd()]:
    _folder = sys.path.pop(0)
    if os.path.samefile(_folder, os.path.dirname(os.path.dirname(__file__))):
        sys.path.append(_folder)  # the package is there, and so may be what it imports
