"""Runs the commands of the pages in this process."""

import glob
import importlib
import os
import re
import runpy
import sys
from unittest import mock

import torch.distributed
from code_blocks import QUOTED_STAR, ROOT
from torch.distributed.run import get_args_parser

from fidfast._cli import arguments as cli_arguments
from fidfast._cli import commands as cli

#: Commands of other tools, which pages show beside ours.
OTHER_TOOLS = (
    ("python", "-m", "pytorch_fid"),
    ("fidelity",),
    ("python", "evaluator.py"),
    ("python", "calc_metrics.py"),
    ("python", "calculate_metrics.py"),
    ("python", "-m", "dgm_eval"),
    ("torchrun", "eval_all_fds.py"),
    ("python", "main.py"),
)

#: A word that stands for an argument in a synopsis.
_PLACEHOLDER = re.compile(r"\[?[A-Z]{2,}\]?(\.\.\.)?$")


def run(words, *, only_parse=False):
    """Run one command; the exit code must be 0. With `only_parse`, its arguments are parsed only."""
    words = [os.path.expandvars(word) for word in words]
    words = words[: words.index(">")] if ">" in words else words  # the file of the output is not written
    if any(tuple(words[: len(tool)]) == tool for tool in OTHER_TOOLS):
        return
    if words[0] == "torchrun":
        words = _of_torchrun(words)
    if words[:2] == ["pip", "install"]:
        _require_extras(words)
    elif words[0] == "fidfast" or words[:3] == ["python", "-m", "fidfast"]:
        _fidfast(words[1:] if words[0] == "fidfast" else words[3:], only_parse)
    elif only_parse:
        return
    elif words[:2] == ["python", "-c"]:
        exec(compile(words[2].replace(QUOTED_STAR, "*"), "python -c", "exec"), {})
    elif words[:2] == ["python", "-m"]:
        importlib.import_module(words[2]).main(words[3:])
    elif words[0].endswith(".py"):
        leave_group()
        with mock.patch.object(sys, "argv", words):
            runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    else:
        raise AssertionError(f"no rule for {words}")


def _fidfast(arguments, only_parse):
    command, *rest = arguments
    assert command in cli._COMMANDS, command
    if any(_PLACEHOLDER.match(word) for word in rest):
        return
    expanded = [found for word in arguments for found in (sorted(glob.glob(word)) if "*" in word else [word])]
    expanded = [word.replace(QUOTED_STAR, "*") for word in expanded]
    cli_arguments.parse(expanded)
    if not only_parse:
        assert cli.main(expanded) == 0, arguments


def _of_torchrun(words):
    """The command that each process runs; the options are those of torchrun."""
    options = get_args_parser().parse_args(words[1:])
    script = [options.training_script, *options.training_script_args]
    return ["python", "-m", *script] if options.module else script


def _require_extras(words):
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^([\w-]+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE))
    named = [re.search(r"\[(.*)\]", word) for word in words]
    for extra in [extra for found in named if found for extra in found[1].split(",")]:
        assert extra in {*extras, "data"}, f"{extra} of {words}"  # ray[data]
    for path in [words[index + 1] for index, word in enumerate(words) if word == "-c"]:
        assert (ROOT / path).exists(), path


def leave_group():
    """Leave the process group of a block, if there is one."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
