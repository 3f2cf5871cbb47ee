"""Writes results to standard output and messages to standard error.

Nothing here raises for the content or the stream: a result must not be lost after hours of work.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from fidfast._results import json_object
from fidfast._text import encodable, printable

__all__ = ["SCHEMA", "Output", "lines_of_images", "or_unknown", "write_message", "write_text"]

#: Name and version of the keys and types of ``--json``, which docs/command_line.md lists. A key that is removed or
#: renamed, or another type, unit or meaning needs a new number; a further key does not.
SCHEMA = "fidfast/1"


class Output:
    """The results and messages of one command; results go to the standard output at the time of the construction."""

    def __init__(self) -> None:
        #: Whether a result could not be written to standard output.
        self.failed = False
        #: Whether warnings are kept only, for another process that writes them.
        self.is_silent = False
        #: The warnings so far.
        self.warnings: set[str] = set()
        self._stdout = sys.stdout

    def lines(self, lines: Iterable[str]) -> None:
        """Write lines to standard output, or to standard error if that is impossible."""
        self._write("".join(f"{printable(line)}\n" for line in lines))

    def text(self, text: str) -> None:
        """Write text of this package as it is, with its line breaks, as `lines`."""
        self._write(text if text.endswith("\n") else f"{text}\n")

    def json(self, numbers: Mapping[str, Any]) -> None:
        """Write one JSON object, in ASCII if standard output or a terminal could not show other characters.

        JSON has no NaN and no infinity; they become null.
        """
        numbers = {"schema": SCHEMA, **json_object(numbers)}
        text = json.dumps(numbers, ensure_ascii=False, allow_nan=False)
        encoding = getattr(self._stdout, "encoding", None)
        if not text.isprintable() or encodable(text, encoding) != text:
            text = json.dumps(numbers, allow_nan=False)
        self._write(f"{text}\n")

    def warning(self, message: str) -> None:
        """Write a warning to standard error, once."""
        if message not in self.warnings:
            self.warnings.add(message)
            if not self.is_silent:
                write_message(f"fidfast: warning: {message}")

    def _write(self, text: str) -> None:
        error = write_text(self._stdout, text)
        if error is None or isinstance(error, BrokenPipeError):  # the reader, for example head, has closed the pipe
            return
        self.failed = True
        write_message(f"fidfast: cannot write to standard output ({error}); the result follows")
        write_text(sys.stderr, text)


def lines_of_images(ignored: Mapping[str, Mapping[str, int]], skipped: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Lines about the files that were not read and the images that were skipped, by path."""
    for path, reasons in ignored.items():
        yield f"{path}: not read: {', '.join(f'{number} {reason}' for reason, number in reasons.items())}"
    for path, messages in skipped.items():
        images = "broken image" if len(messages) == 1 else "broken images"
        yield f"{path}: skipped {len(messages)} {images}"
        yield from (f"  {message}" for message in messages)


def or_unknown(value: object) -> str:
    """The value as text; "unknown" for None."""
    return "unknown" if value is None else str(value)


def write_message(message: str) -> None:
    """Write one line to standard error, if possible."""
    write_text(sys.stderr, f"{printable(message)}\n")


def write_text(stream: Any, text: str) -> Exception | None:
    """Write and flush, with characters that the stream cannot encode replaced; return the error if that fails."""
    if stream is None:
        return OSError("it is closed")
    try:
        with _blocking(stream):
            stream.write(encodable(text, getattr(stream, "encoding", None)))
            stream.flush()
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        _discard_buffer(stream)
        return error
    return None


@contextmanager
def _blocking(stream: Any) -> Iterator[None]:
    """Waits for a full pipe, also if another process has made it non-blocking."""
    descriptor = None
    with suppress(OSError, ValueError, AttributeError):  # streams of notebooks and tests
        if not os.get_blocking(stream.fileno()):
            descriptor = stream.fileno()
            os.set_blocking(descriptor, True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.set_blocking(descriptor, False)


def _discard_buffer(stream: Any) -> None:
    """Discard what could not be written, which Python would try to write again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
