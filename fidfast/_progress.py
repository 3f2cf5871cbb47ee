"""Progress of long computations: a bar on terminals and in notebooks, lines now and then in logs."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

from fidfast._text import encodable, printable

__all__ = ["progress_bar"]

#: Seconds between two lines of a log; shorter computations write none.
SECONDS_BETWEEN_LINES = 30.0


def progress_bar(
    total: int | None, show: bool, *, label: str = "", unit: str = "images", initial: int = 0, timed: bool = True
) -> contextlib.AbstractContextManager[Any]:
    """Progress on standard error.

    Parameters
    ----------
    total : int or None
        Number of steps, or None if it is unknown.
    show : bool
        Whether to show anything.
    label : str, default ""
        What is processed, "samples" for example. Characters that standard error cannot show are escaped.
    unit : str, default "images"
        What is counted, in the plural.
    initial : int, default 0
        Number of steps done earlier; they do not count for the speed and the time left.
    timed : bool, default True
        Whether the steps take about equal times, so that speed and time left mean something.

    Returns
    -------
    context manager
        A `tqdm.tqdm` on a terminal, a `tqdm.auto.tqdm` in a notebook. If standard error is a file, or tqdm is not
        installed, an object that writes a line every 30 seconds. All have the methods ``update(number)``,
        ``set_description_str(label)`` and ``close()``.
    """
    stream = sys.stderr
    if not show or stream is None:
        return _Hidden()
    label = _writable(label, stream)
    notebook = _in_notebook()
    if not (notebook or stream.isatty()):
        return _Lines(total, label, unit, initial, timed)
    try:
        if notebook:
            from tqdm.auto import tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        return _Lines(total, label, unit, initial, timed)
    form = None if timed else "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}]"
    bar: contextlib.AbstractContextManager[Any] = tqdm(
        total=total, desc=label or None, unit=f" {unit}", initial=initial, smoothing=0.05, bar_format=form
    )
    return bar


class _Hidden(contextlib.AbstractContextManager[Any]):
    """Shows nothing."""

    def update(self, number: int = 1) -> None:
        pass

    def set_description_str(self, label: str) -> None:
        pass

    def close(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.close()


class _Lines(_Hidden):
    """Writes a line every `SECONDS_BETWEEN_LINES`, and a last one at the end of a computation that has written any."""

    def __init__(self, total: int | None, label: str, unit: str, initial: int, timed: bool) -> None:
        self._total = total
        self._label = label
        self._unit = unit
        self._timed = timed
        self._initial = self._done = initial
        self._begin = self._written = time.monotonic()
        self._shown = -1

    def update(self, number: int = 1) -> None:
        self._done += number
        self._write_if_due()

    def set_description_str(self, label: str) -> None:
        self._label = _writable(label, sys.stderr)
        self._write_if_due()

    def close(self) -> None:
        if self._shown not in (-1, self._done):
            self._write()

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= SECONDS_BETWEEN_LINES:
            self._write()

    def _write(self) -> None:
        self._written, self._shown = time.monotonic(), self._done
        # A log that cannot be written does not end the computation.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(self._text(self._written - self._begin), file=sys.stderr, flush=True)

    def _text(self, seconds: float) -> str:
        """``samples: 12,800 of 50,000 images (26 %), 85.3 images/s, 7:16 left``."""
        share = "" if not self._total else f" of {self._total:,}"
        percent = "" if not self._total else f" ({100 * self._done // self._total} %)"
        speed = (self._done - self._initial) / seconds if seconds > 0 and self._timed else 0.0
        text = f"{self._label}: " if self._label else ""
        text += f"{self._done:,}{share} {self._unit}{percent}, {_duration(seconds)}"
        if speed > 0:
            text += f", {speed:.3g} {self._unit}/s"
        if speed > 0 and self._total and self._total > self._done:
            text += f", {_duration((self._total - self._done) / speed)} left"
        return text


def _duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below one hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _writable(label: str, stream: Any) -> str:
    return encodable(printable(label), getattr(stream, "encoding", None) or "ascii")


def _in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
