"""The arguments and options of the command line."""

from __future__ import annotations

import argparse

from fidfast import _core
from fidfast._stats import NEGATIVE_TOLERANCE

__all__ = ["IMAGE_OPTIONS", "parser"]

#: Options that apply to images only.
IMAGE_OPTIONS = ("weights", "resize", "bfloat16", "batch_size", "num_workers", "device", "skip_broken")

_FILES = "statistics (.npz, .pkl, .pt) or features (.npy, .npz, .pt, .safetensors)"
_SOURCES = f"images (a folder, .zip, .tar, .npz, .npy), {_FILES}"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` of the result is the name of the command."""
    root = argparse.ArgumentParser(
        prog="fidfast", description="Fréchet distance between sets of images, features or statistics."
    )
    root.add_argument("--version", action="version", version=f"fidfast {_core.__version__}")
    commands = root.add_subparsers(dest="command", metavar="command", required=True)
    _add_fid(commands.add_parser("fid", help="print the distance between two sets of images, features or statistics"))
    _add_report(commands.add_parser("report", help="print every metric computable from features; --html: with plots"))
    _add_stats(
        commands.add_parser("stats", help="write the statistics of images or features; resumes an interrupted run")
    )
    _add_info(commands.add_parser("info", help="describe the content of a file"))
    _add_demo(commands.add_parser("demo", help="show how the distance responds to corruptions of real images"))
    return root


def _add_fid(command: argparse.ArgumentParser) -> None:
    _add_two_sources(command)
    command.add_argument(
        "--estimate",
        action="store_true",
        help="print the distance without bias and with its error bar; needs images or features",
    )
    _add_json(command)
    _add_source_options(command)


def _add_report(command: argparse.ArgumentParser) -> None:
    _add_two_sources(command)
    command.add_argument("--html", metavar="FILE", help="write a page with the table, the plots and the worst images")
    command.add_argument("--images", metavar="PATH", help="the images of the features in SAMPLES, in the same order")
    command.add_argument(
        "--no-pairs",
        action="store_true",
        help="skip the metrics that take O(n^2) time: KID, CMMD, precision, recall, density, coverage",
    )
    _add_json(command)
    _add_source_options(command)


def _add_stats(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", metavar="SOURCE", help=_SOURCES)
    command.add_argument("out", metavar="OUT", help="the .npz file to write; other FID tools can read it")
    _add_source_options(command)


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help=f"{_FILES}, or a checkpoint")
    _add_json(command)


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", metavar="FILE", default="fidfast-demo.png", help="file of the first plot (default: %(default)s)"
    )
    _add_quiet(command)


def _add_two_sources(command: argparse.ArgumentParser) -> None:
    command.add_argument("samples", metavar="SAMPLES", help=f"the generated samples: {_SOURCES}")
    command.add_argument("reference", metavar="REFERENCE", help="the real data: the same kinds of source")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print all numbers as one JSON object")


def _add_quiet(command: argparse._ActionsContainer) -> None:
    command.add_argument("--quiet", action="store_true", help="show no progress bar")


def _add_source_options(command: argparse.ArgumentParser) -> None:
    """Options of every command that reads images, features or statistics."""
    command.add_argument(
        "--precision",
        choices=("float32", "float64"),
        default="float32",
        help="arithmetic of the products of float32 and narrower features (default: %(default)s)",
    )
    command.add_argument(
        "--negative-tolerance",
        type=float,
        default=NEGATIVE_TOLERANCE,
        metavar="X",
        help="accept covariances with negative eigenvalues of up to X times the largest, and drop these; for "
        "statistics computed in float32 or half precision (default: %(default)g)",
    )
    group = command.add_argument_group("images")
    group.add_argument(
        "--extractor",
        metavar="NAME",
        help="the network: inception (default), efficientnet-lite0, or package.module:factory; "
        "for files without an extractor's name, the network that computed the features",
    )
    group.add_argument("--weights", metavar="FILE", help="weights of inception, instead of a download")
    group.add_argument(
        "--like",
        metavar="TOOL",
        help="follow the conventions of pytorch-fid, torch-fidelity, clean-fid, torchmetrics or stylegan3",
    )
    group.add_argument("--resize", metavar="METHOD", help="how to resize images to the network's input size")
    group.add_argument(
        "--bfloat16",
        action="store_true",
        help="run the network in bfloat16: faster, changes the distance by 1-2 %%",
    )
    group.add_argument(
        "--compile", choices=("auto", "yes", "no"), default="auto", help="compile the network (default: %(default)s)"
    )
    group.add_argument("--batch-size", type=_positive, metavar="N", help="images per batch")
    group.add_argument("--num-workers", type=int, metavar="N", help="number of processes that decode and resize")
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda if available)")
    group.add_argument("--skip-broken", action="store_true", help="skip images that cannot be read, and list them")
    group.add_argument("--no-cache", action="store_true", help="do not read or write the cache of statistics")
    _add_quiet(group)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
