"""Moments, features and distance of the samples of a generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast import _core
from fidfast._stats import Moments
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._extractors.named import open_extractor
from fidfast.torch._images.batches import features_of_batch
from fidfast.torch._images.options import check_device
from fidfast.torch._processes.reduction import (
    all_reduce,
    failing_together,
    rank_and_size,
    require_equal,
    sum_over_processes,
)
from fidfast.torch._training.metric import FrechetDistance
from fidfast.torch._training.sampling import draw_samples, require_at_least

__all__ = ["features_of_samples", "fid_of_samples", "moments_of_samples"]


def moments_of_samples(
    generator: Callable[[int], torch.Tensor],
    num_samples: int,
    extractor: Any,
    *,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str | None = None,
    blocks: int = 1,
    precision: str = "float32",
    group: Any = None,
    sync: bool = True,
    progress: bool = False,
) -> Moments:
    """Moments of the features of images that a generator makes.

    The samples depend on `seed`, `batch_size` and `num_samples` only, and torch's random state is restored. If a
    process group is initialised, all processes of `group` must call this function: each draws a share of the batches,
    and all get the moments of all samples.

    Parameters
    ----------
    generator : callable
        ``generator(n)`` returns n images, a tensor or array (n, 3, height, width), or (n, 1, height, width) if grey,
        uint8 or floats from 0 to 1. Called without gradients. A module, or the module of a bound method such as
        ``model.sample``, is in evaluation mode meanwhile; then the mode of every submodule is restored.
    num_samples : int
        Number of samples, at least 2, over all processes.
    extractor : str, Extractor, callable or network
        As in `moments_of_images`.
    batch_size : int, default 64
        Number of images per call of the generator; the last batch may be smaller.
    seed : int, default 0
        Every batch is drawn with torch's random number generators (CPU and CUDA) seeded from `seed` and the number of
        the batch; then their states are restored. Other random number generators are not seeded.
    device : torch.device, optional
        Device of the extractor. By default CUDA if available.
    blocks : int, default 1
        Number of blocks of the moments, as in `fidfast.Moments`; with 20 or more, `fidfast.estimate` can compute an
        error bar. Which samples are in which block depends on the number of processes.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the moments, as in `fidfast.Moments`.
    group : torch.distributed.ProcessGroup, optional
        By default the default group, if one is initialised.
    sync : bool, default True
        Whether the processes of the group share the work. With ``sync=False`` this process draws all samples alone, and
        others need not call the function.
    progress : bool, default False
        Whether to show progress on standard error.

    Returns
    -------
    Moments

    Raises
    ------
    TypeError, ValueError
        If an argument or the images of the generator are invalid.
    RuntimeError
        If another process has died, as in `all_reduce`.

    Examples
    --------
    >>> import torch, fidfast.torch
    >>> generator = lambda n: torch.rand(n, 3, 8, 8)
    >>> extractor = lambda images: images.mean(dim=(2, 3))
    >>> moments = fidfast.torch.moments_of_samples(generator, 1000, extractor, blocks=20)
    >>> moments.num_samples, moments.dim, len(moments.blocks)
    (1000, 3, 20)
    """
    moments: Moments | None = None

    def add(features: torch.Tensor, _first: int) -> None:
        nonlocal moments
        if moments is None:
            moments = Moments(features.shape[1], precision=precision, extractor=network.full_name, blocks=blocks)
        moments.update(features)

    with failing_together(group, sync):
        require_at_least(num_samples=(num_samples, 2))
        Moments(1, precision=precision, blocks=blocks)  # checks both before the first batch
        network = _prepared(extractor, device)
        _draw_features(
            generator, num_samples, network, add, batch_size=batch_size, seed=seed, device=device, group=group,
            sync=sync, progress=progress,
        )  # fmt: skip
    assert moments is not None  # num_samples is at least 2
    if rank_and_size(group, sync)[1] > 1:
        all_reduce(moments, group=group)
    return moments


def features_of_samples(
    generator: Callable[[int], torch.Tensor],
    num_samples: int,
    extractor: Any,
    *,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str | None = None,
    group: Any = None,
    sync: bool = True,
    progress: bool = False,
) -> NDArray[np.float32]:
    """Features of images that a generator makes, one row per image, for `estimate`, `kid` and other metrics of rows.

    Parameters
    ----------
    generator, num_samples, extractor, batch_size, seed, device, group, sync, progress
        As in `moments_of_samples`; `num_samples` may be 1.

    Returns
    -------
    (num_samples, dim) float32 ndarray
        In the order of the samples, the same in every process of the group, each of which holds all rows.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `moments_of_samples`.
    """
    rows: NDArray[np.float32] | None = None

    def add(features: torch.Tensor, first: int) -> None:
        nonlocal rows
        if rows is None:
            rows = np.zeros((num_samples, features.shape[1]), np.float32)
        values = features.float().cpu().numpy()
        _core.require_finite(values, first_row=first)
        rows[first : first + len(values)] = values

    with failing_together(group, sync):
        require_at_least(num_samples=(num_samples, 1))
        _draw_features(
            generator, num_samples, _prepared(extractor, device), add, batch_size=batch_size, seed=seed, device=device,
            group=group, sync=sync, progress=progress,
        )  # fmt: skip
    assert rows is not None
    if rank_and_size(group, sync)[1] > 1:
        require_equal({"shape of the features": rows.shape}, group)
        rows = sum_over_processes(rows, group)  # each row is zero in all processes but one, so the sum is exact
    return rows


def fid_of_samples(
    generator: Callable[[int], torch.Tensor],
    reference: Any,
    extractor: Any,
    *,
    num_samples: int = 10_000,
    ddof: int = 1,
    batch_size: int = 64,
    seed: int = 0,
    device: torch.device | str | None = None,
    precision: str = "float32",
    group: Any = None,
    sync: bool = True,
    progress: bool = False,
) -> float:
    """Fréchet distance between images that a generator makes and a reference; the FID for the extractor "inception".

    Parameters
    ----------
    generator : callable
        As in `moments_of_samples`.
    reference : path, GaussianStats, Moments or (n, dim) features
        As in `FrechetDistance`.
    extractor : str, Extractor, callable or network
        As in `moments_of_images`.
    num_samples : int, default 10,000
        Number of samples, at least 2, over all processes.
    ddof : int, default 1
        The covariance of the samples is the scatter divided by ``num_samples - ddof``; that of a reference given as
        features, by one less than their number.
    batch_size, seed, device, precision, group, sync, progress
        As in `moments_of_samples`.

    Returns
    -------
    float
        The same in every process of the group; never negative.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError, RuntimeError
        As `moments_of_samples` and `FrechetDistance`.
    """
    with failing_together(group, sync):
        require_at_least(num_samples=(num_samples, 2))
        metric = FrechetDistance(
            _prepared(extractor, device), reference, ddof=ddof, precision=precision, group=group, sync=sync
        ).to(check_device(device))
    metric.update_samples(generator, num_samples, batch_size=batch_size, seed=seed, progress=progress)
    return metric.compute()


def _prepared(extractor: Any, device: torch.device | str | None) -> Extractor:
    """The extractor on the device."""
    return open_extractor(extractor).prepared(compile=False, device=check_device(device))


def _draw_features(
    generator: Callable[[int], torch.Tensor],
    num_samples: int,
    extractor: Extractor,
    add: Callable[[torch.Tensor, int], None],
    *,
    device: torch.device | str | None,
    batch_size: int,
    seed: int,
    group: Any,
    sync: bool,
    progress: bool,
) -> None:
    """Call ``add(features, first)`` as `draw_samples` does with images; a surplus batch has no rows."""
    resolved = check_device(device)

    def extract(images: torch.Tensor, first: int | None) -> None:
        features = features_of_batch(extractor, images, resolved)
        add(features[:0] if first is None else features, first or 0)

    draw_samples(
        generator, num_samples, extract, batch_size=batch_size, seed=seed, device=resolved, group=group, sync=sync,
        progress=progress,
    )  # fmt: skip
