"""The training script for JAX: continued, and in two processes."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("orbax.checkpoint")

SCRIPT = Path(__file__).parents[2] / "examples" / "train_jax.py"


def start(folder, epochs, *arguments):
    command = [sys.executable, str(SCRIPT), str(folder), "--epochs", str(epochs), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def distances(process):
    """The distance after each epoch."""
    output, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    return dict(re.findall(r"epoch (\d+) distance (\S+)", output))


@pytest.mark.slow
def test_two_processes_and_a_continued_run_equal_one(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{listener.getsockname()[1]}"
    one = distances(start(tmp_path / "one", 2))
    several = [
        start(tmp_path / "two", 1, "--process", k, "--processes", 2, "--coordinator", coordinator) for k in range(2)
    ]
    first, nothing = map(distances, several)
    assert nothing == {}
    continued = distances(start(tmp_path / "two", 2))
    assert continued.keys() == {"1"}
    # The moments differ by their rounding, and 9 digits are printed. The compiled training steps are the same.
    found = {**first, **continued}
    np.testing.assert_allclose([float(found[k]) for k in one], [float(one[k]) for k in one], rtol=1e-7)
    assert float(one["1"]) < float(one["0"])
