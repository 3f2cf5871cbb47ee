"""One pass over images: workers decode, the network runs here, and a thread of its own takes the features.

On CUDA batches come from pinned memory and features go back to it without the loop waiting for either. The CUDA half of
this file has been written with care, and not been run on a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from fidfast._files import formats
from fidfast._images import BrokenImageError, Images
from fidfast._stats.moments import Moments
from fidfast.torch._extractors.extractors import Extractor
from fidfast.torch._images.loading import Batch, Decoded, Item, batches_of_loader, together

__all__ = ["Run", "number_of", "place_of", "usual_workers"]

#: Seconds between two checkpoints.
CHECKPOINT_EVERY = 60.0


def usual_workers(device: torch.device | str | None = None) -> int:
    """How many processes decode and resize: up to 8 beside CUDA, and up to 2 beside a network on the CPU.

    None on 2 cores, which the network has use for: there two workers cost an eighth of the images a second, measured
    with an Inception network in bfloat16.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8) if place_of(device).type == "cuda" else max(0, min(cores - 2, 2))


def place_of(device: torch.device | str | None) -> torch.device:
    """The device that is named, or CUDA where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def number_of(images: Any) -> int | None:
    """How many there are, where that is known before they have been seen."""
    try:
        return len(images)
    except TypeError:
        return None


class Run:
    """One pass over the images; what it has come to is all in here."""

    def __init__(
        self,
        images: Any,
        extractor: Extractor,
        device: torch.device,
        empty: Callable[[int], Any],
        checkpoint: Path | None,
    ) -> None:
        self._images = images
        self._extractor = extractor
        self._device = device
        self._empty = empty  # moments, or what else collects rows of so many columns
        self._checkpoint = checkpoint
        self._job = "" if checkpoint is None else self._described()
        self._saved = time.monotonic()
        self.moments: Any = None
        self.skipped: list[str] = []
        self.places: list[int] = []  # of the image behind each row, among those of this run
        self._done = 0

    def extract(self, batch_size: int, num_workers: int | None, skip_broken: bool, bar: Any) -> None:
        self._take_up(skip_broken)
        updates: deque[Future[None]] = deque()
        # cuDNN would round float32 to TF32 by itself.
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        try:
            with torch.inference_mode(), exact, ThreadPoolExecutor(1) as updater, bar:
                bar.update(self._done)
                for batch in self._batches(batch_size, num_workers):
                    if batch.broken and not skip_broken:
                        raise BrokenImageError(batch.broken[0])
                    features = [self._features(stack) for stack in batch.stacks]
                    updates.append(updater.submit(self._update, features, batch))
                    while len(updates) > 2:
                        updates.popleft().result()
                    bar.update(batch.size)
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

    def _update(self, stacks: list[tuple[torch.Tensor, torch.cuda.Event | None]], batch: Batch) -> None:
        """One batch, whole, in the updater's thread: an interrupt comes before it or after it."""
        for features, ready in stacks:
            if ready is not None:
                ready.synchronize()
            if self.moments is None:
                self.moments = self._empty(features.shape[1])
            try:
                self.moments.update(features)
            except ValueError as error:
                raise ValueError(f"extractor {self._extractor.name}: {error}") from error
        self.places += [self._done + place for place in batch.places]
        self._done += batch.size
        self.skipped += batch.broken

    def _batches(self, batch_size: int, num_workers: int | None) -> Iterator[Batch]:
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
        yield from DataLoader(
            rest,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=together,
            pin_memory=self._device.type == "cuda",
        )

    def collected(self) -> Any:
        """The moments, or what else was collected, of all images."""
        if self.moments is None and self.skipped:
            raise ValueError(f"none of the {len(self.skipped)} images could be read; the first: {self.skipped[0]}")
        if self.moments is None:
            raise ValueError("there are no images")
        return self.moments

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _described(self) -> str:
        """What a checkpoint must be of for this run to go on from it; taken before the first image is read."""
        images = self._images.fingerprint() if isinstance(self._images, Images) else f"{number_of(self._images)} items"
        form = self._empty(1)
        parts = f" {len(form.blocks)} blocks" if len(form.blocks) > 1 else ""
        return f"{images} {form.extractor} {self._extractor.weights_digest()} {form.precision}{parts}"

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
