"""From images to moments: decoding, resizing, the network and the update of the moments, side by side.

Worker processes decode and resize; the network runs in this process; a thread of its own updates the moments, whose
work needs no GIL. On CUDA batches come from pinned memory and features go back to it without the loop waiting for
either. The CUDA half of this file has been written with care, and not been run on a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler, Subset

from fidfast import cache, formats
from fidfast.frechet import frechet_distance
from fidfast.gaussian import GaussianStats
from fidfast.images import BrokenImageError, Images, open_images
from fidfast.moments import Moments
from fidfast.torch.extractors import Extractor, as_extractor
from fidfast.torch.loading import Decoded, Item, batches_of_loader, together
from fidfast.torch.named import load_extractor

__all__ = ["ImageMoments", "fid_of_images", "moments_of_images", "stats_of_images"]

#: Seconds between two checkpoints.
CHECKPOINT_EVERY = 60.0


class ImageMoments(NamedTuple):
    """What came of a set of images."""

    moments: Moments
    #: One message for each broken image that was left out; it begins with the image's name.
    skipped: list[str]


def moments_of_images(
    source: Any,
    extractor: Any,
    *,
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: torch.device | str | None = None,
    precision: str | None = None,
    compile: str | bool = "auto",
    moments_precision: str = "float32",
    skip_broken: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    use_cache: bool = False,
    progress: bool = False,
) -> ImageMoments:
    """Moments of the features of images.

    Parameters
    ----------
    source : path, array, Images, torch Dataset or DataLoader
        A folder, ``.zip``, WebDataset ``.tar``, ``.npz`` or ``.npy`` of images; a (n, height, width, 3) uint8 array;
        or what yields images, or batches of them, as uint8 or as floats from 0 to 1 (a label beside is ignored).
    extractor : str, Extractor, callable or network
        A name for `load_extractor`, or anything that `as_extractor` takes.
    batch_size : int, optional
        Images at a time; 8 on CPUs, whose caches hold no more, and 128 on CUDA unless given.
    num_workers : int, optional
        Processes that decode and resize; `usual_workers` unless given, and none for few images.
    device : torch.device, optional
        CUDA where there is one, unless given.
    precision, compile
        Of the network, as in `prepare`; an extractor that is prepared already stays as it is.
    moments_precision : {"float32", "float64"}, default "float32"
        Of the moments, as in `Moments`.
    skip_broken : bool, default False
        Whether images that cannot be read are left out and listed, instead of stopping the run.
    checkpoint : path, optional
        A file to which the moments go once a minute, and from which an interrupted run goes on; removed at the end.
        It is refused for other images, another extractor's name or other weights. Of a torch Dataset or DataLoader only
        the length is compared, and of a callable that is no module only the name.
    use_cache : bool, default False
        Whether to look for the moments of the same images under the same extractor, and to keep them. Only for paths,
        and for extractors that `load_extractor` knows by name.
    progress : bool, default False
        Whether to show a bar, where standard error is a terminal.

    Returns
    -------
    ImageMoments

    Raises
    ------
    BrokenImageError
        If an image cannot be read; the message names it. A ValueError.
    FileNotFoundError, TypeError, ValueError
        If the source or the extractor is not usable.
    """
    extractor = load_extractor(extractor) if isinstance(extractor, str) else as_extractor(extractor)
    place = _place(device)
    images: Any = source if isinstance(source, (Images, Dataset, DataLoader)) else open_images(source)
    if isinstance(images, IterableDataset):
        images = DataLoader(images, batch_size or 8)
    num_images = _number(images.dataset if isinstance(images, DataLoader) else images)
    if checkpoint is not None and isinstance(images, DataLoader) and not isinstance(images.sampler, SequentialSampler):
        raise ValueError("a run over a DataLoader without a fixed order cannot go on from a checkpoint")
    kept = None
    if use_cache and isinstance(images, Images) and extractor.reproducible:
        name = replace(extractor, precision=precision or extractor.precision).full_name
        kept = cache.path_of(images, f"{name} {moments_precision}")
        if (found := _kept(kept)) is not None:
            if checkpoint is not None:
                Path(checkpoint).unlink(missing_ok=True)
            return ImageMoments(found, [])
    batch_size = batch_size or (128 if place.type == "cuda" else 8)
    extractor = extractor.prepared(precision, compile, num_images=num_images, batch_size=batch_size, device=place)
    run = _Run(images, extractor, place, moments_precision, Path(checkpoint) if checkpoint is not None else None)
    run.extract(batch_size, num_workers, skip_broken, _bar(num_images, progress))
    if run.moments is None and run.skipped:
        raise ValueError(f"none of the {len(run.skipped)} images could be read; the first: {run.skipped[0]}")
    if run.moments is None:
        raise ValueError("there are no images")
    if kept is not None and not run.skipped:
        with suppress(OSError):  # a full or read-only disk costs time later, and nothing now
            kept.parent.mkdir(parents=True, exist_ok=True)
            run.moments.save(kept)
    return ImageMoments(run.moments, run.skipped)


def usual_workers(device: torch.device | str | None = None) -> int:
    """How many processes decode and resize: up to 8 beside CUDA, and up to 2 beside a network on the CPU.

    None on 2 cores, which the network has use for: there two workers cost an eighth of the images a second, measured
    with an Inception network in bfloat16.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8) if _place(device).type == "cuda" else max(0, min(cores - 2, 2))


def _place(device: torch.device | str | None) -> torch.device:
    """The device that is named, or CUDA where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def stats_of_images(source: Any, extractor: Any, *, ddof: int = 1, **options: Any) -> GaussianStats:
    """Mean and covariance of the features of images; arguments as in `moments_of_images`, `ddof` as in `Moments`."""
    return moments_of_images(source, extractor, **options).moments.stats(ddof)


def fid_of_images(images_a: Any, images_b: Any, extractor: Any = "inception", **options: Any) -> float:
    """Fréchet distance between the features of two sets of images; the FID for the extractor "inception".

    Parameters
    ----------
    images_a, images_b
        Any source that `moments_of_images` takes, or `GaussianStats`.
    extractor : str, Extractor, callable or network, default "inception"
    **options
        As in `moments_of_images`, and `ddof`.

    Returns
    -------
    float
        As `fidfast.frechet_distance`.
    """
    extractor = load_extractor(extractor) if isinstance(extractor, str) else extractor
    sides = [
        side if isinstance(side, GaussianStats) else stats_of_images(side, extractor, **options)
        for side in (images_a, images_b)
    ]
    return frechet_distance(*sides)


def _kept(path: Path) -> Moments | None:
    try:
        return Moments.load(path)
    except (OSError, ValueError):
        return None


def _number(images: Any) -> int | None:
    """How many there are, where that is known before they have been seen."""
    try:
        return len(images)
    except TypeError:
        return None


def _bar(total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(total=total, unit=" images", smoothing=0.05, disable=not (progress and sys.stderr.isatty()))


# The run ------------------------------------------------------------------------------------------------------------


class _Run:
    """One pass over the images; what it has come to is all in here."""

    def __init__(
        self, images: Any, extractor: Extractor, device: torch.device, moments_precision: str, checkpoint: Path | None
    ) -> None:
        self._images = images
        self._extractor = extractor
        self._device = device
        self._moments_precision = moments_precision
        self._checkpoint = checkpoint
        self._job = "" if checkpoint is None else self._described()
        self._saved = time.monotonic()
        self.moments: Moments | None = None
        self.skipped: list[str] = []
        self._done = 0

    def extract(self, batch_size: int, num_workers: int | None, skip_broken: bool, bar: Any) -> None:
        self._take_up(skip_broken)
        updates: deque[Future[None]] = deque()
        # cuDNN would round float32 to TF32 by itself.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        try:
            with torch.inference_mode(), exact, ThreadPoolExecutor(1) as updater, bar:
                bar.update(self._done)
                for stacks, broken, count in self._batches(batch_size, num_workers):
                    if broken and not skip_broken:
                        raise BrokenImageError(broken[0])
                    features = [self._features(stack) for stack in stacks]
                    updates.append(updater.submit(self._update, features, broken, count))
                    while len(updates) > 2:
                        updates.popleft().result()
                    bar.update(count)
                    if self._checkpoint is not None and time.monotonic() - self._saved > CHECKPOINT_EVERY:
                        _finish(updates)
                        self._save()
                _finish(updates)
        except KeyboardInterrupt:  # here the updater has come to its end
            self._save()
            raise
        if self._checkpoint is not None:
            self._checkpoint.unlink(missing_ok=True)

    def _features(self, stack: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        return _to_host(self._extractor(stack.to(self._device, non_blocking=True)))

    def _update(self, batch: list[tuple[torch.Tensor, torch.cuda.Event | None]], broken: list[str], count: int) -> None:
        """One batch, whole, in the updater's thread: an interrupt comes before it or after it."""
        for features, ready in batch:
            if ready is not None:
                ready.synchronize()
            if self.moments is None:
                self.moments = Moments(features.shape[1], self._moments_precision, self._extractor.full_name)
            try:
                self.moments.update(features)
            except ValueError as error:
                raise ValueError(f"extractor {self._extractor.name}: {error}") from error
        self._done += count
        self.skipped += broken

    def _batches(self, batch_size: int, num_workers: int | None) -> Iterator[tuple[list[torch.Tensor], list[str], int]]:
        """Stacks of images as the network takes them, broken ones, and how many there were in all."""
        if isinstance(self._images, DataLoader):
            yield from batches_of_loader(self._images, self._extractor, self._done)
            return
        rest: Dataset[Item] = Decoded(self._images, self._extractor)
        total = len(self._images)
        if self._done > 0:
            rest = Subset(rest, range(self._done, total))
        if num_workers is None:
            # Processes that do not fork would run the caller's script again, unless it is written for that.
            several = total - self._done > 2 * batch_size and multiprocessing.get_start_method() == "fork"
            num_workers = usual_workers(self._device) if several else 0
        loader: Iterable[Any] = DataLoader(
            rest,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=together,
            pin_memory=self._device.type == "cuda",
        )
        for stacks, broken in loader:
            yield stacks, broken, sum(map(len, stacks)) + len(broken)

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _described(self) -> str:
        """What a checkpoint must be of for this run to go on from it; taken before the first image is read."""
        images = self._images.fingerprint() if isinstance(self._images, Images) else f"{_number(self._images)} items"
        return f"{images} {self._extractor.full_name} {self._extractor.weights_digest()} {self._moments_precision}"

    def _save(self) -> None:
        if self._checkpoint is not None and self.moments is not None:
            content = formats.Checkpoint(
                self.moments._blocks,
                self._extractor.full_name,
                formats.Progress(self._job, self._done, self.skipped),
            )
            formats.write_checkpoint(self._checkpoint, content)
            self._saved = time.monotonic()

    def _take_up(self, skip_broken: bool) -> None:
        if self._checkpoint is None or not self._checkpoint.exists():
            return
        content = formats.read(self._checkpoint)
        progress = content.progress if isinstance(content, formats.Checkpoint) else None
        if not isinstance(content, formats.Checkpoint) or progress is None or progress.job != self._job:
            raise ValueError(
                f"{self._checkpoint} is a checkpoint of another run: of other images, or of another extractor than "
                f"{self._extractor.full_name}; remove it to begin anew"
            )
        if progress.skipped and not skip_broken:
            raise BrokenImageError(progress.skipped[0])
        self.moments = Moments._of_blocks(content.blocks, content.extractor)
        self._done, self.skipped = progress.done, list(progress.skipped)


def _to_host(features: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """The features in the host's memory once the event has come, if there is one."""
    if not features.is_cuda:
        return features.cpu(), None
    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    host.copy_(features, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event


def _finish(updates: deque[Future[None]]) -> None:
    while updates:
        updates.popleft().result()
