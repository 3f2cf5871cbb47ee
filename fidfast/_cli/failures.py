"""Messages about exceptions of a command, also of the user's own code and of errors in this package."""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

from fidfast import _core
from fidfast._cli.checkpoints import how_to_continue
from fidfast._cli.output import write_message
from fidfast._cli.signals import Terminated, ignoring_signals
from fidfast._images import BrokenImageError
from fidfast._text import printable

__all__ = ["write_error"]

_PACKAGE = Path(__file__).parents[1]


def write_error(error: Exception | KeyboardInterrupt, options: argparse.Namespace) -> int:
    """Write a message about an error, without being interrupted, and return the exit code."""
    with ignoring_signals():
        return _write_message_of(error, options)


def _write_message_of(error: Exception | KeyboardInterrupt, options: argparse.Namespace) -> int:
    how = how_to_continue(options)
    if isinstance(error, KeyboardInterrupt):
        ended = f"ended by {error}" if isinstance(error, Terminated) else "interrupted"
        write_message(f"fidfast: {ended}{how}")
        return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)
    extractors = getattr(options, "extractors", None) or [getattr(options, "extractor", None)]
    if any(_write_failure_of_extractor(error, extractor) for extractor in extractors):
        if how:
            write_message(f"fidfast: {how.removeprefix('; ')}")
    elif isinstance(error, BrokenImageError):
        write_message(f"fidfast: {error}; --skip-broken skips such images{how}")
    elif isinstance(error, (MemoryError, RuntimeError)):
        message = " ".join(str(error).split())  # messages of torch have several lines
        write_message(f"fidfast: {message or type(error).__name__}{how}")
    elif isinstance(error, (OSError, ValueError, TypeError, ImportError)):
        write_message(f"fidfast: {error or type(error).__name__}")
    else:
        _write_bug(error, getattr(options, "command_line", "fidfast"))
    return 1


def _write_failure_of_extractor(error: BaseException, extractor: str | None) -> bool:
    """If an error comes from the code of ``--extractor package.module:factory``, write its traceback.

    Returns
    -------
    bool
        Whether it does. The traceback contains the frames of the user's files alone.
    """
    if extractor is None or ":" not in extractor:
        return False
    own = _own_path(extractor.partition(":")[0])
    for cause in _chain(error):
        shown = traceback.TracebackException.from_exception(cause, compact=True)
        files = [frame.filename for frame in shown.stack]
        if isinstance(cause, SyntaxError):
            files.append(cause.filename or "")
        if own is not None and any(_is_own(file, own) and Path(file).absolute().is_relative_to(own) for file in files):
            frames = [frame for frame in shown.stack if _is_own(frame.filename, own)]
            shown.stack = traceback.StackSummary.from_list(frames)
            write_message(f"fidfast: the extractor {extractor} failed:")
            _write_traceback(shown)
            return True
    return False


def _write_bug(error: BaseException, command_line: str) -> None:
    """Write the traceback of an error that this package should have prevented."""
    _write_traceback(traceback.TracebackException.from_exception(error))
    write_message(
        f"fidfast: this is an error in fidfast {_core.__version__}: please report it, with the lines above, the "
        f"output of `fidfast doctor` and the command: {command_line}"
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


def _own_path(module: str) -> Path | None:
    """The folder of a module and of those beside it; of an installed one its package, or its file."""
    try:
        found = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    places = None if found is None else [*(found.submodule_search_locations or ()), found.origin]  # folders, or a file
    if not places or places[0] is None:
        return None
    package = Path(places[0]).absolute()
    return package if any(package.is_relative_to(folder) for folder in _libraries()) else package.parent


def _is_own(file: str, own: Path) -> bool:
    """Whether a file is the user's: neither of this package, nor of Python, nor of another installed package."""
    path = Path(file).absolute()
    if not file or file.startswith("<") or path.is_relative_to(_PACKAGE):
        return False
    libraries = [folder for folder in _libraries() if path.is_relative_to(folder)]
    # The user's folder may contain the installed packages, and they the extractor.
    return not libraries or (path.is_relative_to(own) and any(own.is_relative_to(folder) for folder in libraries))


def _libraries() -> list[Path]:
    paths = sysconfig.get_paths()
    installed = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
    return [
        Path(entry) for entry in (*map(paths.get, ("stdlib", "platstdlib", "purelib", "platlib")), *installed) if entry
    ]
