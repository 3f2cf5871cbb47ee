"""Test programs in two processes, with and without torchrun."""

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def torchrun(folder, program, *arguments):
    """Run the source of a program in two processes of torchrun, with the folder and `arguments` as its arguments."""
    (folder / "worker.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "worker.py"]
    return subprocess.run(
        [*command, str(folder), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env=ENVIRONMENT,
    )


def two_processes_without_torchrun(folder, program):
    """Run the source of a program in two processes and return their exit statuses.

    torchrun would end one process when the other dies. The arguments are the folder, the rank, and a rendezvous URL.
    """
    (folder / "worker.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "worker.py", str(folder)]
    started = [
        subprocess.Popen([*command, str(rank), f"file://{folder}/rendezvous"], cwd=folder, env=ENVIRONMENT)
        for rank in range(2)
    ]
    try:
        return [process.wait(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
