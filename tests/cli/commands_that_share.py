"""Program of two processes that run commands; see `test_cli_torchrun.py`."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

from fidfast._cli import torchrun
from fidfast._cli.commands import main
from fidfast.torch._processes import ranks


def run(folder):
    ranks.BEAT, ranks.SILENT, torchrun._UNTIL_OWN_MESSAGE = 0.1, 1.5, 0.1
    rank, results = os.environ["RANK"], []
    for arguments in json.loads(Path(folder, "commands.json").read_text()):
        sys.argv[1:] = arguments
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            try:
                code = main()
            except SystemExit as error:
                code = error.code
        results.append((code, output.getvalue(), errors.getvalue()))
        Path(folder, f"results-{rank}.json").write_text(json.dumps(results))
    os._exit(0)  # a process has died, so that the others cannot leave their group
