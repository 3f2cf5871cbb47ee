"""The CUDA half without a GPU: tests/cuda in a process of its own, since torch brings the real libraries into this."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_cuda_half_on_its_stand_in(request):
    if importlib.util.find_spec("fidfast._cuda") is None:
        pytest.skip("fidfast was built without a CUDA compiler: there is no CUDA half to test")
    if shutil.which("nvcc") is None:
        pytest.skip("there is no CUDA compiler on PATH, whose headers the stand-in for CUDA is built with")
    command = [sys.executable, "-m", "pytest", "tests/cuda", "-q", "-p", "no:cacheprovider"]
    command += ["--all"] if request.config.getoption("--all") else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    # Were all skipped, for want of a tool, say, nothing would have been tested.
    assert " passed" in done.stdout
