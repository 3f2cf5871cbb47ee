"""Several processes, as torchrun starts them."""

import os
import subprocess
import sys


def torchrun(folder, program, *arguments):
    """Runs the text of a program in two processes; its arguments are the folder, and those that are given."""
    (folder / "worker.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "worker.py"]
    return subprocess.run(
        [*command, str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
