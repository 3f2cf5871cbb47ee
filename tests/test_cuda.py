"""Runs tests/cuda in a separate process, since torch loads the real CUDA libraries into this one."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_cuda_extension_without_a_gpu(request):
    if importlib.util.find_spec("fidfast._cuda") is None:
        pytest.skip("fidfast was built without CUDA")
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH; the stand-in for CUDA needs its headers")
    command = [sys.executable, "-m", "pytest", "tests/cuda", "-q", "-p", "no:cacheprovider"]
    command += ["--all"] if request.config.getoption("--all") else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert " passed" in done.stdout  # not all tests were skipped
