"""Test programs in several processes of torch.distributed."""

import os
import socket
import subprocess
import sys


def two_processes(folder, program, *arguments):
    """As `several_processes`, with two."""
    return several_processes(2, folder, program, *arguments)


def several_processes(number, folder, program, *arguments, environment=None):
    """Run the source of a program in processes with the environment of torchrun, and return their exit statuses.

    The program's arguments are the folder and `arguments`. Unlike with torchrun, no process is ended when another
    dies.
    """
    (folder / "worker.py").write_text(program, encoding="utf-8")
    return run_processes(number, ["worker.py", str(folder), *arguments], folder, environment)


def run_processes(number, arguments, folder, environment=None):
    """Run Python with these arguments in several processes with the environment of torchrun."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "TORCHELASTIC_RUN_ID": "test",
        **(environment or {}),
    }
    started = [
        subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env={**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(number)
    ]
    try:
        return [process.wait(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
