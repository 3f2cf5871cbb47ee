"""guided-diffusion's evaluator: ``python -m fidfast.compat.evaluator reference.npz samples.npz``, or `main`."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

__all__ = ["main"]

#: By metric of `fidfast.torch.evaluate`: its line.
_LINES = {"is": "Inception Score", "fid": "FID", "sfid": "sFID", "precision": "Precision", "recall": "Recall"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the five numbers of guided-diffusion's ``evaluations/evaluator.py``.

    Parameters
    ----------
    arguments : sequence of str, optional
        The reference batch and the sample batch, ``.npz`` files or other sources of images; by default the arguments
        of the process.

    Raises
    ------
    SystemExit
        If there are not two arguments.
    TypeError, ValueError, FileNotFoundError, ImportError
        As `fidfast.torch.evaluate`.

    Notes
    -----
    `fidfast.torch.evaluate` with ``like="adm"``, which takes the samples first, and docs/evaluate.md describes.
    """
    parser = ArgumentParser(prog="python -m fidfast.compat.evaluator")
    parser.add_argument("ref_batch", help="reference batch: an .npz of images, or of images and statistics")
    parser.add_argument("sample_batch", help="sample batch: an .npz of images")
    given = parser.parse_args(arguments)
    from fidfast.torch import evaluate

    found = evaluate(given.sample_batch, given.ref_batch, metrics=tuple(_LINES), like="adm", progress=True)
    for metric, label in _LINES.items():
        print(f"{label}: {found[metric]}")


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise SystemExit(f"fidfast.compat.evaluator: {error}") from None
