"""Program of two processes that run commands; see `test_cli_torchrun.py`."""

import contextlib
import datetime
import functools
import io
import json
import os
import sys
import time
from pathlib import Path

import torch.distributed as dist

from fidfast._cli import commands, torchrun
from fidfast.torch._processes import ranks


def run_slowly(function):
    """The function, which takes longer at its first call than the timeout of the process group."""
    calls = []

    def call(*arguments, **options):
        if not calls:
            time.sleep(3)
        calls.append(arguments)
        return function(*arguments, **options)

    return call


def run(folder):
    group = dist.init_process_group
    dist.init_process_group = functools.partial(group, timeout=datetime.timedelta(seconds=2))
    commands.frechet_terms = run_slowly(commands.frechet_terms)
    ranks.BEAT, ranks.SILENT, torchrun._UNTIL_OWN_MESSAGE = 0.1, 5.0, 0.1
    rank, results = os.environ["RANK"], []
    for arguments in json.loads(Path(folder, "commands.json").read_text()):
        sys.argv[1:] = arguments
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code = commands.main()
            except SystemExit as error:
                code = error.code
        results.append((code, output.getvalue(), errors.getvalue()))
        Path(folder, f"results-{rank}.json").write_text(json.dumps(results))
    os._exit(0)  # a process has died, so that the others cannot leave their group
