"""Suggestions for misspelt options and commands, and for the options of other tools."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence

__all__ = ["suggest_command", "suggest_option"]

#: Options of other tools -> the options here, or an explanation. ``{}`` is the value.
_OTHER_TOOLS = {
    ("gpu", "gpus", "gpu-id", "cuda", "cuda-device", "device-id"): "--device cuda:{}",
    ("cpu", "no-cuda", "no-gpu"): "--device cpu",
    ("num-gpus", "ngpus"): "one GPU is used: --device cuda",
    ("batch", "bs", "b", "batchsize"): "--batch-size",
    ("workers", "num-worker", "num-processes", "num-threads", "threads", "j"): "--num-workers",
    ("model", "model-name", "net", "network", "backbone", "arch", "encoder", "feature-extractor"): "--extractor",
    ("dims", "dim", "layer", "block"): "the extractor determines the features: --extractor package.module:factory",
    ("mode", "tool", "compat"): "--like",
    ("checkpoint", "ckpt", "weights-path", "model-path"): "--weights",
    ("resizer", "interpolation", "image-size", "img-size", "resolution"): "--resize",
    ("half", "fp16", "amp", "bf16", "autocast"): "--bfloat16",
    ("silent", "q", "no-progress", "no-verbose"): "--quiet",
    ("disable-cache", "nocache", "cache-off"): "--no-cache",
    ("float64", "double", "fp64", "dtype"): "--precision float64",
    ("error", "stderr", "confidence", "ci", "bootstrap"): "--estimate",
    ("input1", "input2", "path1", "path2", "fake", "real", "gen", "ref", "reference", "samples", "generated", "fdir",
     "dataset1", "dataset2"): "the sources are given without options: fidfast fid SAMPLES REFERENCE",
    ("save-stats", "save-statistics", "make-custom-stats"): "the command is: fidfast stats SOURCE OUT",
    ("is", "isc", "kid", "prc", "precision-recall", "prdc", "cmmd", "density", "coverage", "sfid"):
        "the command is: fidfast evaluate SAMPLES REFERENCE",
    ("rank", "part", "chunk", "split", "num-shards", "shard-id", "shards"): "--shard K/N",
    ("fid",): "the command is: fidfast fid SAMPLES REFERENCE",
}  # fmt: skip

_EXTRACTOR = ("extractor", "model", "net", "network", "backbone", "encoder", "feature-extractor")

#: Names of commands of other tools.
_OTHER_COMMANDS = {
    "fid": ("calc", "calculate", "calculate-fid", "compare", "compute", "compute-fid", "distance",
            "fid-score", "frechet", "score"),
    "evaluate": ("all", "cmmd", "eval", "evaluator", "evaluation", "is", "isc", "kid", "metrics", "prc", "prdc",
                 "sfid"),
    "report": ("summary",),
    "stats": ("dump", "extract", "features", "make-custom-stats", "moments", "ref", "save", "save-stats", "statistics"),
    "merge": ("combine", "concat", "join", "reduce", "sum"),
    "info": ("describe", "inspect", "show"),
    "doctor": ("collect-env", "diagnose", "env", "environment", "system", "version", "versions"),
    "demo": ("example", "test"),
}  # fmt: skip


def suggest_option(given: str, following: str | None, command: str, options: Mapping[str, Collection[str]]) -> str:
    """A hint for an unknown option, as the end of a message; empty if there is none.

    Parameters
    ----------
    given : str
        The option as typed, perhaps with ``=value``.
    following : str or None
        The next argument.
    command : str
        Name of the command.
    options : mapping
        Option strings by command.
    """
    typed, _, value = given.partition("=")
    name = re.sub(r"[_-]+", "-", typed.lower()).strip("-")
    if f"--{name}" in options[command]:
        return _did_you_mean(f"--{name}")
    for names, meaning in _OTHER_TOOLS.items():
        if name in names:
            if not meaning.startswith("--"):
                return f"; {meaning}"
            if meaning.split()[0] in options[command]:
                return _did_you_mean(meaning.format(_device_index(value or following or "")))
    if command == "evaluate" and name in _EXTRACTOR:
        return "; the extractor follows the name of the metric: --metrics fid@NAME"
    others = [other for other, strings in options.items() if f"--{name}" in strings]
    if others:
        return f"; it is an option of {' and '.join(f'fidfast {other}' for other in others)}"
    close = difflib.get_close_matches(f"--{name}", list(options[command]), n=1)
    return _did_you_mean(close[0]) if close else ""


def suggest_command(arguments: Sequence[str], commands: Collection[str]) -> str:
    """A hint for arguments that begin with `arguments[0]` instead of a command; empty if there is none."""
    given = arguments[0]
    name = re.sub(r"[_-]+", "-", given.lower())
    meant = [command for command, names in _OTHER_COMMANDS.items() if name in names]
    meant = meant or difflib.get_close_matches(name, list(commands), n=1)
    if meant and not _looks_like_path(given):
        return _did_you_mean(f"fidfast {shlex.join([meant[0], *arguments[1:]])}")
    paths = [word for word in arguments if not word.startswith("-")]
    if not any(map(_looks_like_path, paths)):
        return ""
    command = next((word for word in paths if word in commands), "fid" if len(paths) > 1 else "info")
    rest = [word for word in arguments if word != command]
    return _did_you_mean(f"fidfast {shlex.join([command, *rest])}")


def _did_you_mean(text: str) -> str:
    return f"; did you mean {text}?"


def _device_index(value: str) -> str:
    return value if value.isdecimal() else "0"


def _looks_like_path(word: str) -> bool:
    return "/" in word or os.sep in word or os.path.exists(word) or bool(os.path.splitext(word)[1])
