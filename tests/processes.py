"""Several processes, as torchrun starts them, and without it."""

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


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
        env=ENVIRONMENT,
    )


def two_that_nobody_watches(folder, program):
    """The program's text in two processes; torchrun would end one of them where the other dies. Their exit statuses.

    Its arguments are the folder, the process's rank, and a file by which they may find each other.
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
