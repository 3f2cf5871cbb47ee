"""Ctrl-C in long calls, and signal handlers that run within them. No test asserts a time: ``-s --all`` prints them."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "interrupt.py"
#: Enough for the default run; together they pass through every kind of loop.
QUICK = (
    "frechet_distance",
    "gaussian_stats_of_an_indefinite_covariance",
    "update",
    "kid",
    "precision_recall",
    "ngram_update",
)


def interrupt(*arguments: str) -> dict[str, list]:
    command = [sys.executable, str(SCRIPT), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    print(ended.stderr)
    return json.loads(ended.stdout)


def test_long_calls_are_interrupted_and_change_nothing():
    for name, (outcomes, same, _) in interrupt("small", *QUICK).items():
        assert (outcomes, same) == (["KeyboardInterrupt"], True), name


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "large"])
def test_every_long_call_is_interrupted_and_changes_nothing(size):
    for name, (outcomes, same, _) in interrupt(size).items():
        assert (outcomes, same) == (["KeyboardInterrupt"], True), name


def test_signal_handlers_within_a_call():
    # A handler may raise any exception, return, or call fidfast; an object that the call has locked raises an error
    # instead of waiting for itself. A call of another thread does not stop the main thread from running handlers.
    code = """
        import os, signal, threading, time
        import numpy as np
        import fidfast
        numbers = np.random.default_rng(0).standard_normal(10**6)
        rows = np.lib.stride_tricks.as_strided(numbers, (60_000, 1024), (128, 8))
        moments = fidfast.Moments(1024)
        moments.update(rows[:2000])
        seen, stopped = [], []

        class Stop(BaseException):
            pass

        def handler(number, frame):
            if len(seen) == 0:
                try:
                    moments.num_samples
                except RuntimeError as error:
                    seen.append(str(error))
            elif len(seen) == 1:
                seen.append(fidfast.fid(rows[:50, :8], rows[50:100, :8]))
            else:
                stopped.append(True)
                raise Stop

        def send():
            time.sleep(0.15)
            while not stopped:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.15)

        signal.signal(signal.SIGUSR1, handler)
        threading.Thread(target=send).start()
        try:
            while True:
                moments.update(rows)
        except Stop:
            pass
        assert "signal handler" in seen[0] and seen[1] > 0, seen
        moments.update(rows[:1000])

        worker = threading.Thread(target=lambda: fidfast.kid(rows[:20_000], rows[20_000:40_000]), daemon=True)
        worker.start()
        time.sleep(0.05)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        try:
            worker.join()
            raise AssertionError("not interrupted")
        except Stop:
            pass
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
