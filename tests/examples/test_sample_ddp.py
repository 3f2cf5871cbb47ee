"""The script that samples in several processes."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import fidfast

SCRIPT = Path(__file__).parents[2] / "examples" / "sample_ddp.py"
ARGUMENTS = ["--num-samples", "47", "--num-reference", "30", "--batch-size", "10"]


def test_the_distance_does_not_depend_on_the_number_of_processes(tmp_path, monkeypatch, capsys):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(SCRIPT), *ARGUMENTS]
    done = subprocess.run(
        [*command, "--save", str(tmp_path / "samples.npz")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert fidfast.GaussianStats.load(tmp_path / "samples.npz").num_samples == 47  # the last batch has 7
    monkeypatch.setattr(sys, "argv", ["sample_ddp.py", *ARGUMENTS])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    shared, alone = done.stdout.splitlines(), capsys.readouterr().out.splitlines()
    assert len(shared) == len(alone) == 1
    assert shared[0].startswith("47 samples, 2 processes: Fréchet distance ")
    # Batches of other sizes change float32 features by 1e-6 at most, and the distance by as much.
    distances = [float(line.split()[-1]) for line in (*shared, *alone)]
    assert distances[0] == pytest.approx(distances[1], rel=1e-5)
