"""Progress on terminals, in logs and in notebooks."""

import io
import sys
import types

import pytest

from fidfast import _progress
from fidfast._progress import progress_bar


class Stream(io.StringIO):
    """Standard error with an encoding."""

    def __init__(self, encoding="utf-8", terminal=False):
        super().__init__()
        self._encoding = encoding
        self._terminal = terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._terminal

    def write(self, text):
        text.encode(self._encoding)  # raises as a real stream would
        return super().write(text)


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests move."""
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def run(monkeypatch, stream, clock, *, steps=5, seconds=20.0, size=100, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(steps * size + options.get("initial", 0), True, **options) as bar:
        for _ in range(steps):
            clock[0] += seconds
            bar.update(size)
    return stream.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then_and_a_last_one(monkeypatch, clock):
    lines = run(monkeypatch, Stream(), clock, label="samples")
    assert lines == [
        "samples: 200 of 500 images (40 %), 0:40, 5 images/s, 1:00 left",
        "samples: 400 of 500 images (80 %), 1:20, 5 images/s, 0:20 left",
        "samples: 500 of 500 images (100 %), 1:40, 5 images/s",
    ]


def test_a_short_run_writes_nothing_to_a_log(monkeypatch, clock):
    assert run(monkeypatch, Stream(), clock, seconds=5.0) == []


def test_the_time_left_after_a_resume_excludes_earlier_work(monkeypatch, clock):
    lines = run(monkeypatch, Stream(), clock, initial=1000)
    assert lines[0] == "1,200 of 1,500 images (80 %), 0:40, 5 images/s, 1:00 left"


def test_a_total_may_be_unknown(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", Stream())
    with progress_bar(None, True, unit="rows") as bar:
        clock[0] += 3600
        bar.update(7200)
    assert sys.stderr.getvalue() == "7,200 rows, 1:00:00, 2 rows/s\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("encoding", ["ascii", "cp932", "latin-1", "utf-8"])
def test_any_label_on_any_stream(monkeypatch, clock, encoding, terminal):
    lines = run(monkeypatch, Stream(encoding, terminal), clock, label="écran 日本\udc80\n")
    assert any(r"\udc80\n: " in line for line in lines)


def test_a_full_pipe_does_not_end_the_work(monkeypatch, clock):
    class Full(Stream):
        def write(self, text):
            raise BrokenPipeError

    assert run(monkeypatch, Full(), clock) == []


@pytest.mark.parametrize("stream", [None, Stream(terminal=True)])
def test_nothing_is_shown_without_a_stream_or_a_wish(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    for show in (False, stream is None):
        with progress_bar(2, show, label="reference") as bar:
            bar.update()
            bar.set_description_str("samples")
    assert stream is None or stream.getvalue() == ""


def test_a_terminal_without_tqdm_gets_lines(monkeypatch, clock):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert len(run(monkeypatch, Stream(terminal=True), clock)) == 3


@pytest.mark.filterwarnings("ignore:IProgress not found")
def test_a_notebook_gets_a_bar(monkeypatch, clock):
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert any("500/500" in line for line in run(monkeypatch, Stream(), clock, label="samples"))
