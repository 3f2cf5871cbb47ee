"""The script that samples in several processes."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_processes

import fidfast

SCRIPT = Path(__file__).parents[2] / "examples" / "sample_ddp.py"
ARGUMENTS = ["--num-samples", "13", "--num-reference", "10", "--batch-size", "4"]


def saved(path):
    """The statistics that the script has written; the last batch has one sample."""
    stats = fidfast.GaussianStats.load(path)
    assert stats.num_samples == 13
    return stats


def test_the_samples_do_not_depend_on_the_number_of_processes(tmp_path, monkeypatch, capfd):
    assert run_processes(2, [str(SCRIPT), *ARGUMENTS, "--save", "shared.npz"], tmp_path) == [0, 0]
    shared = capfd.readouterr().out.splitlines()
    assert len(shared) == 1
    assert shared[0].startswith("13 samples, 2 processes: Fréchet distance ")
    monkeypatch.setattr(sys, "argv", ["sample_ddp.py", *ARGUMENTS, "--save", str(tmp_path / "alone.npz")])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    alone = capfd.readouterr().out.splitlines()
    # Batches of other sizes change float32 features by 1e-6 at most, and the distance by as much.
    assert float(shared[0].split()[-1]) == pytest.approx(float(alone[0].split()[-1]), rel=1e-5)
    one, two = saved(tmp_path / "shared.npz"), saved(tmp_path / "alone.npz")
    assert fidfast.frechet_distance(one, two) < 1e-5 * one.sigma.trace()


@pytest.mark.slow
def test_torchrun(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(SCRIPT), *ARGUMENTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("13 samples, 2 processes: Fréchet distance ")
