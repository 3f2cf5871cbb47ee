"""The command ``fidfast evaluate``."""

from __future__ import annotations

import argparse
import os

from fidfast import _core
from fidfast._cli.checkpoints import write_continued
from fidfast._cli.output import Output
from fidfast._cli.sources import add_current_folder, image_options, lines_of_images

__all__ = ["print_evaluation"]


def print_evaluation(options: argparse.Namespace, output: Output) -> None:
    """Print the numbers that `fidfast.torch.evaluate` returns."""
    from fidfast.torch import evaluate

    add_current_folder(options.metrics)
    write_continued(options)
    found = evaluate(
        options.samples,
        options.reference,
        metrics=options.metrics,
        like=options.like,
        estimate=options.estimate,
        weights=options.weights,
        resize=options.resize,
        seed=options.seed,
        negative_tolerance=options.negative_tolerance,
        options=image_options(options, options.checkpoint),
        progress=not options.quiet,
    )
    files = {"samples": options.samples, "reference": options.reference}
    if options.json:
        output.json({**found.to_dict(), "files": list(files.values()), "fidfast_version": _core.__version__})
        return
    titles = {side: os.fspath(path) for side, path in files.items() if path is not None}
    ignored = {titles[side]: reasons for side, reasons in found.ignored.items()}
    skipped = {titles[side]: messages for side, messages in found.skipped.items()}
    output.lines([*found.table().split("\n"), *lines_of_images(ignored, skipped)])
