"""The arguments and options of the command line."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from typing import Any, NoReturn

from fidfast import _core
from fidfast._cli.argument_types import at_least, names, positive, shard, weights_of
from fidfast._cli.cache import add_cache_arguments
from fidfast._cli.examples import epilog_of
from fidfast._cli.output import write_message, write_text
from fidfast._cli.suggestions import suggest_command, suggest_option
from fidfast._stats import NEGATIVE_TOLERANCE

__all__ = ["IMAGE_OPTIONS", "SHELLS", "parse", "parsers"]

#: Shells for which there are completion scripts.
SHELLS = ("bash", "zsh", "fish")

#: Options that apply to images only.
IMAGE_OPTIONS = (
    "extractors",
    "weights",
    "resize",
    "bfloat16",
    "batch_size",
    "num_workers",
    "device",
    "skip_broken",
    "suffix",
    "max_value",
    "max_pixels",
)

_FILES = (
    "statistics (.npz, .pkl, .pt, a folder with mu.npy and cov.npy) or features (.npy, .npz, .pt, .safetensors, "
    ".parquet, zarr, or a folder or quoted pattern of such files)"
)
_SOURCES = f"images (a folder, .zip, .tar, .npz, .npy), {_FILES}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the arguments of the command line.

    Returns
    -------
    argparse.Namespace
        ``command`` is the name of the command, ``command_line`` the command as typed.

    Raises
    ------
    SystemExit
        With exit code 2 after an error, whose message suggests what may be meant; with 0 after ``--help``.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    root, commands = parsers()
    _check_spelling(root, commands, words)
    options, surplus = root.parse_known_args(words)
    if surplus:
        hint = "; pass the folder, not its files" if os.path.isfile(surplus[0]) else ""
        commands[options.command].error(f"unexpected argument {surplus[0]} ({len(surplus)} too many){hint}")
    if getattr(options, "weights", None) is not None:
        try:
            options.weights = weights_of(options.weights)
        except argparse.ArgumentTypeError as error:
            commands[options.command].error(str(error))
    options.command_line = shlex.join(["fidfast", *words])
    return options


def parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of the command line, and those of the commands by name."""
    root = _Parser(
        prog="fidfast",
        description="Fréchet distance between sets of images, features or statistics.",
        epilog="fidfast COMMAND --help lists the options of a command.",
    )
    root.add_argument("--version", action="version", version=f"fidfast {_core.__version__}")
    subparsers = root.add_subparsers(dest="command", metavar="command", required=True)
    commands = {}
    for name, add, arguments_text, what in _COMMANDS:
        usage = f"fidfast {name} [options] {arguments_text}".rstrip()
        about = f"{what[0].upper()}{what[1:]}."
        commands[name] = subparsers.add_parser(
            name,
            help=what,
            description=textwrap.fill(about, 78),
            usage=usage,
            epilog=epilog_of(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,  # the examples are lines
        )
        add(commands[name])
    return root, commands


class _Parser(argparse.ArgumentParser):
    """Writes help and errors to any stream."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        write_message(f"{self.prog}: error: {message}")
        raise SystemExit(2)

    def _print_message(self, message: str, file: Any = None) -> None:
        write_text(file or sys.stderr, message)


def _check_spelling(root: _Parser, commands: dict[str, _Parser], words: list[str]) -> None:
    """Report the first unknown command or option; argparse would report missing arguments first."""
    options = {name: tuple(command._option_string_actions) for name, command in commands.items()}
    if words and words[0].startswith("-"):
        if _is_unknown(words[0], root._option_string_actions):
            root.error(f"{words[0]} is not an option of fidfast itself; the options follow the command")
        return
    if not words:
        return
    if words[0] not in commands:
        hint = suggest_command(words, commands) or f"; the commands are {', '.join(commands)}"
        root.error(f"unknown command {words[0]}{hint}")
    for index, word in enumerate(words):
        if word == "--":
            break
        if _is_unknown(word, options[words[0]]):
            following = words[index + 1] if index + 1 < len(words) else None
            hint = suggest_option(word, following, words[0], options) or f"; see fidfast {words[0]} --help"
            commands[words[0]].error(f"unknown option {word}{hint}")


def _is_unknown(word: str, options: Collection[str]) -> bool:
    """Whether argparse would not find the option; it accepts prefixes of one option."""
    if not re.match(r"-[^0-9.]", word) or " " in word:
        return False
    name = word.partition("=")[0]
    return name not in options and not (name.startswith("--") and any(known.startswith(name) for known in options))


def _add_fid(command: argparse.ArgumentParser) -> None:
    _add_two_sources(command)
    command.add_argument(
        "--estimate",
        action="store_true",
        help="print the distance without bias and with its error bar; needs images or features",
    )
    _add_json(command)
    _add_source_options(command)


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("samples", metavar="SAMPLES", help=f"the generated samples: {_SOURCES}")
    command.add_argument(
        "reference",
        metavar="REFERENCE",
        nargs="?",
        help="the real data: the same kinds of source; not for is and vendi",
    )
    command.add_argument(
        "--metrics",
        metavar="NAMES",
        help="names with commas between them: is, fid, sfid, kid, precision, recall, density, coverage, cmmd, vendi, "
        "mind, fdr, fd-NETWORK (fd-dinov2) and METRIC@EXTRACTOR (kid@dinov2-vitl14) "
        "(default: is,fid,sfid,precision,recall)",
    )
    command.add_argument(
        "--estimate", action="store_true", help="print standard errors, and Fréchet distances without bias"
    )
    command.add_argument(
        "--seed",
        type=at_least(0),
        default=2020,
        metavar="N",
        help="seed of shuffles and subsets (default: %(default)s)",
    )
    command.add_argument(
        "--checkpoint", metavar="FILE", help="write what is done to FILE.samples.npz and FILE.reference.npz, and resume"
    )
    _add_json(command)
    _add_numerical_options(command)
    _add_image_options(command.add_argument_group("images"))


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
    command.add_argument(
        "out",
        metavar="OUT",
        help="the .npz file to write, which other FID tools can read; a name that ends in .moments.npz is written as "
        "moments, which `merge` adds to others",
    )
    command.add_argument(
        "--shard",
        type=shard,
        metavar="K/N",
        help="only part K of N, from 1 to N, of the images or rows, as moments: OUT must end in .moments.npz",
    )
    command.add_argument(
        "--extractors",
        type=names,
        metavar="NAMES",
        help="several networks with commas between them, in one pass over the images and one file, of which --key NAME "
        "chooses the statistics: inception,inception-spatial; of moments one file each, OUT.NAME.moments.npz",
    )
    _add_json(command)
    _add_source_options(command)


def _add_merge(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="files that `stats` wrote as .moments.npz, all shards of one or more sources in any order, or a folder of "
        "such files",
    )
    command.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        required=True,
        help="the .npz file to write: statistics as of `stats`, or moments if the name ends in .moments.npz",
    )
    command.add_argument(
        "--like", metavar="TOOL", help="the covariance of another tool: pytorch-fid, torch-fidelity, clean-fid, ..."
    )
    _add_json(command)
    _add_quiet(command)


def _add_info(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help=f"images (a folder, .zip, .tar), {_FILES}, or a checkpoint")
    _add_json(command)


def _add_doctor(command: argparse.ArgumentParser) -> None:
    _add_json(command)


def _add_completion(command: argparse.ArgumentParser) -> None:
    command.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def _add_demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--features", action="store_true", help="of features in this package instead of images: in seconds, no plots"
    )
    command.add_argument(
        "--out", metavar="FILE", default="fidfast-demo.png", help="file of the first plot (default: %(default)s)"
    )
    _add_json(command)
    _add_quiet(command)


def _add_two_sources(command: argparse.ArgumentParser) -> None:
    command.add_argument("samples", metavar="SAMPLES", help=f"the generated samples: {_SOURCES}")
    command.add_argument("reference", metavar="REFERENCE", help="the real data: the same kinds of source")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print all numbers as one JSON object")


def _add_quiet(command: argparse._ActionsContainer) -> None:
    command.add_argument("--quiet", action="store_true", help="show no progress")


def _add_source_options(command: argparse.ArgumentParser) -> None:
    """Options of the commands that read one thing of each source: images, features or statistics."""
    _add_numerical_options(command)
    command.add_argument(
        "--key",
        action="append",
        metavar="KEY",
        help="what to use of a file of several things: fd_dinov2, mu_s,sigma_s, images; `info` lists the keys; "
        "given twice, for SAMPLES and REFERENCE",
    )
    group = command.add_argument_group("images")
    group.add_argument(
        "--extractor",
        metavar="NAME",
        help="the network: inception, dinov2-vitl14 and others (docs/networks.md) or package.module:factory (default: "
        "that of the statistics, else inception); it also names the network of features whose file does not",
    )
    _add_image_options(group)


def _add_numerical_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--precision",
        choices=("float32", "float64"),
        help="arithmetic of the products of features (default: float64 for moments of images, else float32)",
    )
    command.add_argument(
        "--negative-tolerance",
        type=float,
        default=NEGATIVE_TOLERANCE,
        metavar="X",
        help="accept covariances with negative eigenvalues of up to X times the largest, and drop these; for "
        "statistics computed in float32 or half precision (default: %(default)g)",
    )


def _add_image_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--weights",
        action="append",
        metavar="[NAME=]FILE",
        help="weights of the network (default: downloaded once); for several networks once each, with their names: "
        "inception=FILE, dinov2-vitl14=FILE",
    )
    group.add_argument(
        "--like",
        metavar="TOOL",
        help="compute what another tool computes: pytorch-fid, torch-fidelity, clean-fid, torchmetrics, "
        "stylegan3 or adm",
    )
    group.add_argument(
        "--resize",
        metavar="METHOD",
        help="resize to the network's input size: pil-bicubic, tf1-bilinear, torch-bilinear or "
        "torch-bilinear-antialias (default: that of the network)",
    )
    group.add_argument(
        "--bfloat16",
        action="store_true",
        help="run the network in bfloat16: faster if the processor computes in it; changes the distance by 1-2 %%",
    )
    group.add_argument(
        "--compile", choices=("auto", "yes", "no"), default="auto", help="compile the network (default: %(default)s)"
    )
    group.add_argument("--batch-size", type=at_least(1), metavar="N", help="images per batch")
    group.add_argument(
        "--num-workers", type=at_least(0), metavar="N", help="number of processes that decode and resize"
    )
    group.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda if available)")
    group.add_argument(
        "--suffix",
        metavar="SUFFIX",
        help="read only the files of a folder or archive with these suffixes: jpg, mask.png or jpg,gif; '*' for all",
    )
    group.add_argument(
        "--max-value",
        type=positive,
        metavar="VALUE",
        help="value of white in images of more than 8 bits: 255, 4095, ... (default: 65535)",
    )
    group.add_argument(
        "--max-pixels",
        type=at_least(1),
        metavar="N",
        help="decode images of up to this number of pixels (default: Pillow's limit, 178956970)",
    )
    group.add_argument("--skip-broken", action="store_true", help="skip images that cannot be read, and list them")
    group.add_argument("--no-cache", action="store_true", help="do not read or write the cache of statistics")
    _add_quiet(group)


#: Name of each command, the function that adds its arguments, the arguments without options, and what it does.
_COMMANDS: tuple[tuple[str, Callable[[argparse.ArgumentParser], None], str, str], ...] = (
    ("fid", _add_fid, "SAMPLES REFERENCE", "print the distance between two sets of images, features or statistics"),
    (
        "evaluate",
        _add_evaluate,
        "SAMPLES [REFERENCE]",
        "print several metrics (Inception score, FID, sFID, precision, recall, others) from one pass over the images",
    ),
    (
        "report",
        _add_report,
        "SAMPLES REFERENCE",
        "print every metric of features, and write a page with plots (--html)",
    ),
    ("stats", _add_stats, "SOURCE OUT", "write the statistics of images or features; resumes an interrupted run"),
    ("merge", _add_merge, "FILE... -o OUT", "merge the moments of all shards of one or more sources"),
    ("info", _add_info, "FILE", "describe the content of a file, folder or archive"),
    ("cache", add_cache_arguments, "", "show, prune or empty the cache of the statistics of images"),
    ("doctor", _add_doctor, "", "describe the installation and the machine, for bug reports"),
    ("completion", _add_completion, "SHELL", "print a script that completes commands, options and files in a shell"),
    ("demo", _add_demo, "", "show how the distance responds to corruptions of real images"),
)
