"""Runs tests/cuda in a separate process, since torch loads the real CUDA libraries into this one."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def reason_to_skip() -> str | None:
    """Why the tests cannot run, or None."""
    if importlib.util.find_spec("fidfast._cuda") is None:
        return "fidfast was built without CUDA"
    if shutil.which("nvcc") is None:
        return "nvcc is not on PATH; the stand-in for CUDA needs its headers"
    return None


@pytest.fixture(scope="session", autouse=True)
def cuda_tests(request: pytest.FixtureRequest) -> Iterator[Callable[[], tuple[int, str]] | None]:
    """A function that waits for the process, which runs beside all other tests, and returns its code and output."""
    is_wanted = any(item.path.name == "test_cuda.py" for item in request.session.items)
    if not is_wanted or reason_to_skip() is not None:
        yield None
        return
    command = [sys.executable, "-m", "pytest", "tests/cuda", "-q", "-p", "no:cacheprovider"]
    command += ["--all"] if request.config.getoption("--all") else []
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT) as process,
    ):

        def wait() -> tuple[int, str]:
            process.wait()
            output.seek(0)
            return process.returncode, output.read()

        yield wait
        process.kill()
