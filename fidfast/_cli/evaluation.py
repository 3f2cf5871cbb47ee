"""The command ``fidfast evaluate``."""

from __future__ import annotations

import argparse
from dataclasses import replace

from fidfast import _core
from fidfast._cli.checkpoints import write_continued
from fidfast._cli.output import Output, lines_of_images
from fidfast._cli.sources import add_current_folder, image_options, require_applicable
from fidfast._images import holds_images

__all__ = ["print_evaluation"]


def print_evaluation(options: argparse.Namespace, output: Output) -> None:
    """Print the numbers that `fidfast.torch.evaluate` returns."""
    from fidfast.torch._evaluation.evaluate import evaluate_after

    paths = {side: getattr(options, side) for side in ("samples", "reference") if getattr(options, side) is not None}
    require_applicable(options, paths, [side for side, path in paths.items() if holds_images(path)])
    add_current_folder(options.metrics)
    write_continued(options)
    found = evaluate_after(
        options.samples,
        options.reference,
        metrics=options.metrics,
        like=options.like,
        estimate=options.estimate,
        weights=options.weights,
        resize=options.resize,
        seed=options.seed,
        negative_tolerance=options.negative_tolerance,
        extractors=None,
        options=replace(image_options(options, options.checkpoint), progress=not options.quiet),
        continues=options.launch.continues,
    )
    if found is None:
        return
    if options.json:
        files = [options.samples, options.reference]
        output.json({**found.to_dict(), "files": files, "fidfast_version": _core.__version__})
        return
    ignored = {paths[side]: reasons for side, reasons in found.ignored.items()}
    skipped = {paths[side]: messages for side, messages in found.skipped.items()}
    output.lines([*found.table().split("\n"), *lines_of_images(ignored, skipped)])
