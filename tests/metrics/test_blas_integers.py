"""The same numbers through a BLAS with 64-bit integers, as a SciPy built for them offers it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

# Not imported here: it would load its library for every other one in the process to find.
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("scipy_openblas64"), reason="needs scipy-openblas64")

SCRIPT = Path(__file__).with_name("blas_integers.py")


def numbers(width):
    done = subprocess.run([sys.executable, str(SCRIPT), width], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_wide_and_narrow_integers_agree():
    narrow, wide = numbers("scipy"), numbers("int64_t")
    # Two builds of one library, whose kernels may sum in another order.
    assert wide == pytest.approx(narrow, rel=1e-12)


def test_an_unknown_integer_is_refused():
    done = subprocess.run([sys.executable, str(SCRIPT), "short"], capture_output=True, text=True, check=False)
    assert "ImportError: dpotrf of this SciPy has an unknown signature: void (char *, short *" in done.stderr
