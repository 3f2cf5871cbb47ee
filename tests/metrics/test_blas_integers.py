"""Distances with a BLAS that has 64-bit integers, as some builds of SciPy do."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

# Not imported here: its library would be visible to all others in this process.
pytestmark = pytest.mark.skipif(not importlib.util.find_spec("scipy_openblas64"), reason="needs scipy-openblas64")

SCRIPT = Path(__file__).with_name("blas_integers.py")


def numbers(width):
    done = subprocess.run([sys.executable, str(SCRIPT), width], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_results_do_not_depend_on_the_integer_type():
    narrow, wide = numbers("scipy"), numbers("int64_t")
    # Two builds of OpenBLAS, which may sum in another order.
    assert wide == pytest.approx(narrow, rel=1e-12)


def test_unknown_integer_type_is_rejected():
    done = subprocess.run([sys.executable, str(SCRIPT), "short"], capture_output=True, text=True, check=False)
    assert "ImportError: dpotrf of this SciPy has an unknown signature: void (char *, short *" in done.stderr
