"""The end of a process whose threads are in a call: its own exit status, and nothing on stderr."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from daemons import CALLS

HERE = Path(__file__).parent


def run(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, check=False, cwd="/"
    )


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    return run("-c", textwrap.dedent(code))


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("call", CALLS)
def test_exit_with_daemon_threads_in_a_call(call):
    ended = run(str(HERE / "daemons.py"), call)
    assert (ended.returncode, ended.stderr) == (3, "")


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
def test_exit_with_daemon_threads_at_many_moments(call):
    for moment in range(10):
        ended = run(str(HERE / "daemons.py"), call, str(0.01 + 0.0075 * moment))
        assert (ended.returncode, ended.stderr) == (3, ""), moment


def test_exit_and_fork_with_calls_in_other_threads():
    # The main thread calls fidfast in a callback at exit, after daemon threads can no longer return from their calls.
    # A child forked meanwhile has none of these threads, and must not wait for them or for what they hold.
    ended = run_code(
        """
        import atexit, os, signal, sys, threading, time
        atexit.register(lambda: print(f"{fidfast.fid(a, b):.3f}"))
        import numpy as np
        import fidfast
        a = np.random.default_rng(0).standard_normal((1100, 64))
        b = a[::-1] + 1.0
        shared = fidfast.Moments(64)
        def update():
            while True:
                shared.update(a)
        fidfast.fid(a, b)
        for _ in range(2):
            threading.Thread(target=update, daemon=True).start()
        for _ in range(2):
            time.sleep(0.01)
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                fine = abs(fidfast.fid(a, b) - 64) < 1e-6
                try:
                    shared.update(a)
                except RuntimeError as error:
                    fine = fine and "forked" in str(error)
                os._exit(0 if fine else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        threading.Thread(target=lambda: print(f"{fidfast.fid(b, a):.3f}")).start()
        """
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "64.000\n64.000\n", "")
