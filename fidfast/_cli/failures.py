"""Messages about exceptions: of the user's own code, and of errors in this package."""

from __future__ import annotations

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from fidfast import _core
from fidfast._cli.output import write_message
from fidfast._text import printable

__all__ = ["write_bug", "write_failure_of_extractor"]

_PACKAGE = Path(__file__).parents[1]


def write_failure_of_extractor(error: BaseException, extractor: str | None) -> bool:
    """If an error comes from the code of ``--extractor package.module:factory``, write its traceback.

    Returns
    -------
    bool
        Whether it does. The traceback contains the frames of the user's files alone.
    """
    if extractor is None or ":" not in extractor:
        return False
    own = _folders_of(extractor.partition(":")[0])
    for cause in _chain(error):
        shown = traceback.TracebackException.from_exception(cause, compact=True)
        frames = [frame for frame in shown.stack if _is_own(frame.filename, own)]
        in_source = isinstance(cause, SyntaxError) and _is_own(cause.filename or "", own)
        if frames or in_source:
            shown.stack = traceback.StackSummary.from_list(frames)
            write_message(f"fidfast: the extractor {extractor} failed:")
            _write_traceback(shown)
            return True
    return False


def write_bug(error: BaseException, command_line: str) -> None:
    """Write the traceback of an error that this package should have prevented."""
    _write_traceback(traceback.TracebackException.from_exception(error))
    write_message(
        f"fidfast: this is an error in fidfast {_core.__version__}: please report it, with the lines above and the "
        f"command: {command_line}"
    )


def _write_traceback(shown: traceback.TracebackException) -> None:
    for part in shown.format(chain=False):
        for line in part.rstrip("\n").split("\n"):
            write_message(printable(line))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _folders_of(module: str) -> list[Path]:
    """The user's files: the current folder, and the package of the extractor, which may be installed."""
    found = sys.modules.get(module.partition(".")[0])
    folders = [Path(folder) for folder in getattr(found, "__path__", ())]
    file = getattr(found, "__file__", None)
    return [*folders, *([] if file is None or folders else [Path(file)])]


def _is_own(file: str, own: list[Path]) -> bool:
    """Whether a file is the user's: of the extractor's package, or neither of Python, nor of an installed package."""
    path = Path(os.path.abspath(file))
    if file.startswith("<") or path.is_relative_to(_PACKAGE):
        return False
    if any(path.is_relative_to(folder) for folder in own):
        return True
    paths = sysconfig.get_paths()
    libraries = [Path(paths[name]) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not any(path.is_relative_to(folder) for folder in (*libraries, *_installed()))


def _installed() -> list[Path]:
    return [Path(entry) for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
