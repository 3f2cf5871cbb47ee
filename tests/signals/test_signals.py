"""Ctrl-C in long calls, and signal handlers that run within them. No test asserts a time: ``-s --all`` prints them."""

import copy
import gc
import json
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from fidfast import ClassMoments, InceptionScore, Moments

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
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


class Stop(BaseException):
    pass


@pytest.fixture
def stopping():
    """A function that calls another and stops it by a signal after some seconds; returns whether it was stopped."""

    def stop(number, frame):
        raise Stop

    def call(function, seconds):
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            function()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Stop:
            return True
        return False

    before = signal.signal(signal.SIGALRM, stop)
    gc.disable()  # Python ignores an exception that is raised in a callback of the collection, which JAX has
    yield call
    gc.enable()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


ROWS = np.random.default_rng(0).normal(size=(1500, 24))
LABELS = np.arange(1500) % 30


def update_classes(target, rows):
    target.update(rows, LABELS[: len(rows)])


#: How to create an object and to add rows to it.
COLLECTORS = {
    "Moments": (lambda: Moments(24, blocks=30), Moments.update),
    "ClassMoments": (lambda: ClassMoments(24), update_classes),
    "InceptionScore": (lambda: InceptionScore(24, splits=5), InceptionScore.update),
}


@pytest.mark.parametrize(("create", "add"), COLLECTORS.values(), ids=COLLECTORS)
def test_a_stopped_change_has_no_effect_or_is_complete(create, add, stopping):
    # At whatever moment a signal is handled. The object's lock is free afterwards.
    part = create()
    add(part, ROWS[:60])
    changes = {
        "update": lambda target: add(target, ROWS[:60]),
        "long update": lambda target: add(target, ROWS),
        "merge": lambda target: target.merge(part),
    }
    if create is COLLECTORS["Moments"][0]:
        changes["unmerge"] = lambda target: target.unmerge(part)
        changes["reset"] = lambda target: target.reset()
    stopped = 0
    for name, change in changes.items():
        for i in range(60):
            target = create()
            if i % 2:
                add(target, ROWS[:1200])
            if name == "unmerge":
                target.merge(part)
            before, after = copy.copy(target), copy.copy(target)
            change(after)
            stopped += stopping(lambda change=change, target=target: change(target), 1e-5 * (1 + 3 * i))
            assert target in (before, after), (name, i)
            if i % 10 == 0:
                reader = threading.Thread(target=repr, args=(target,), daemon=True)
                reader.start()
                reader.join(timeout=60)
                assert not reader.is_alive()
    assert stopped > 0
