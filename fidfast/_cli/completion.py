"""The command ``fidfast completion``."""

from __future__ import annotations

import argparse

from fidfast._cli.arguments import parsers
from fidfast._cli.output import Output
from fidfast._network_table import NETWORKS

__all__ = ["EXTRACTORS", "RESIZES", "TOOLS", "print_completion"]

# Repeated here, so that the command does not need torch.
#: Names of the extractors of this package.
EXTRACTORS = ("inception", "inception-spatial", "inception-logits", "efficientnet-lite0", *NETWORKS)
#: Values of ``--like``.
TOOLS = ("torch-fidelity", "pytorch-fid", "clean-fid", "torchmetrics", "stylegan3", "adm")
#: Values of ``--resize``.
RESIZES = (
    "tf1-bilinear",
    "torch-bilinear",
    "torch-bilinear-antialias",
    "torch-bicubic-antialias",
    "pil-bicubic",
    "pil-bicubic-uint8",
    "pil-bilinear-uint8",
)

_VALUES = {"extractor": EXTRACTORS, "like": TOOLS, "resize": RESIZES, "device": ("cpu", "cuda")}
_PATHS = ("SAMPLES", "REFERENCE", "SOURCE", "OUT", "FILE", "PATH", "[NAME=]FILE")


def print_completion(options: argparse.Namespace, output: Output) -> None:
    """Print the completion script for a shell."""
    try:
        import shtab
    except ImportError as error:
        raise ImportError(f"completion needs shtab: pip install 'fidfast[completion]' ({error})") from error
    root, commands = parsers()
    for command in commands.values():
        for action in command._actions:
            if action.metavar in _PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.dest in _VALUES and action.choices is None:
                action.choices = _VALUES[action.dest]
    output.text(shtab.complete(root, options.shell))
