"""The functions and the command line of pytorch-fid's ``fid_score``.

``from fidfast.compat.pytorch_fid import calculate_frechet_distance, calculate_fid_given_paths``, and
``python -m fidfast.compat.pytorch_fid samples/ reference/``.
"""

from __future__ import annotations

import os
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from collections.abc import Sequence
from typing import Any

from fidfast._arguments import require_integer, require_path, require_sequence
from fidfast._images.selection import EXTENSIONS
from fidfast.compat._distance import calculate_frechet_distance

__all__ = ["calculate_fid_given_paths", "calculate_frechet_distance", "main", "save_fid_stats"]


def calculate_fid_given_paths(
    paths: Sequence[Any], batch_size: int = 50, device: Any = None, dims: int = 2048, num_workers: int | None = 1
) -> float:
    """FID of two folders or files, with the arguments of pytorch-fid's function.

    Parameters
    ----------
    paths : (path, path)
        Samples and reference: folders of images, without the folders in them; or files of statistics.
    batch_size : int, default 50
    device : torch.device or str, optional
        By default CUDA if available.
    dims : {2048}
        The other layers of pytorch-fid are not available.
    num_workers : int or None, default 1
        Processes that decode and resize.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError, FileNotFoundError, ImportError
        As `fidfast.torch.fid_of_images`.

    Notes
    -----
    `fidfast.torch.fid_of_images` with ``like="pytorch-fid"``.
    """
    from fidfast.torch import ImageOptions
    from fidfast.torch._images.distances import distance_of_images

    sides = {f"paths[{i}]": _images(path) for i, path in enumerate(_two_paths(paths))}
    options = ImageOptions(batch_size=_checked(batch_size, dims), device=device, num_workers=num_workers)
    return distance_of_images(sides, None, "pytorch-fid", None, options)


def save_fid_stats(
    paths: Sequence[Any], batch_size: int = 50, device: Any = None, dims: int = 2048, num_workers: int | None = 1
) -> None:
    """Write the statistics of a folder, with the arguments of pytorch-fid's function.

    Parameters
    ----------
    paths : (path, path)
        The folder of images, and the ``.npz`` to write, which must not exist.
    batch_size, device, dims, num_workers
        As in `calculate_fid_given_paths`.

    Raises
    ------
    FileExistsError
        If the file exists.
    TypeError, ValueError, OSError, ImportError
        As `fidfast.torch.stats_of_images`.
    """
    from fidfast.torch import ImageOptions, stats_of_images

    source, target = _two_paths(paths)
    options = ImageOptions(batch_size=_checked(batch_size, dims), device=device, num_workers=num_workers)
    if os.path.exists(target):
        raise FileExistsError(f"paths[1]: {target} exists")
    stats_of_images(_images(source), "inception", like="pytorch-fid", options=options).save(target)


def _two_paths(paths: Any) -> list[str]:
    items = require_sequence("paths", paths)
    if len(items) != 2:
        raise ValueError(f"paths must be two paths, got {len(items)}")
    return [require_path(f"paths[{i}]", item) for i, item in enumerate(items)]


def _images(path: str) -> Any:
    """The image files of a folder, without those of the folders in it; another path as it is."""
    if not os.path.isdir(path):
        return path
    names = sorted(name for name in os.listdir(path) if os.path.splitext(name)[1].lower() in EXTENSIONS)
    if not names:
        raise ValueError(f"paths: {path} has no images; pytorch-fid does not read the folders in a folder")
    return [os.path.join(path, name) for name in names]


def _checked(batch_size: Any, dims: Any) -> int:
    """The batch size, after a check of the layer."""
    if require_integer("dims", dims) != 2048:
        raise ValueError(f"dims must be 2048, the only layer that is available, got {dims}")
    return require_integer("batch_size", batch_size, 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line of pytorch-fid.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.
    """
    parser = ArgumentParser(prog="python -m fidfast.compat.pytorch_fid", formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=50, help="images per batch")
    parser.add_argument("--num-workers", type=int, default=None, help="processes that decode and resize")
    parser.add_argument("--device", default=None, help="device of the network, such as cuda:0")
    parser.add_argument("--dims", type=int, default=2048, choices=[2048], help="number of features")
    parser.add_argument("--save-stats", action="store_true", help="write statistics of the first path to the second")
    parser.add_argument("path", nargs=2, help="folders of images, or files of statistics")
    given = parser.parse_args(arguments)
    options = (given.batch_size, given.device, given.dims, given.num_workers)
    if given.save_stats:
        save_fid_stats(given.path, *options)
    else:
        print("FID: ", calculate_fid_given_paths(given.path, *options))


if __name__ == "__main__":
    try:
        main()
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise SystemExit(f"fidfast.compat.pytorch_fid: {error}") from None
