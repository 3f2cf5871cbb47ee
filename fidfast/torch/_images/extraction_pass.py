"""One pass over images: workers decode, the network runs in the main thread, and a second thread collects features.

On CUDA, batches are copied from pinned memory and features are copied back to it, and the loop waits for neither. This
part has not been run on a GPU.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from fidfast._errors import with_message
from fidfast._images import BrokenImageError
from fidfast.torch._extractors.arithmetic import full_float32
from fidfast.torch._extractors.callables import digest_of
from fidfast.torch._extractors.extractor import Extractor
from fidfast.torch._images.batches import (
    DecodedImage,
    DecodedImages,
    Decoder,
    ImageBatch,
    collate,
    decoded_batches,
)
from fidfast.torch._images.checkpoint import Checkpoint
from fidfast.torch._images.options import ImageOptions, default_num_workers, resolve_device
from fidfast.torch._images.sources import ImageSource

__all__ = ["ExtractionPass"]

#: Seconds between checkpoints.
CHECKPOINT_INTERVAL = 60.0


class ExtractionPass:
    """One pass over images that feeds their features to a collector.

    Parameters
    ----------
    source : ImageSource
    extractor : Extractor
        Prepared, and on the device of `options`.
    options : ImageOptions
        With device and batch size. A checkpoint needs a collector that is a `Moments`.
    make_collector : callable
        ``make_collector(dim)`` returns an object with the method ``update(features)``.
    """

    def __init__(
        self,
        source: ImageSource,
        extractor: Extractor,
        options: ImageOptions,
        make_collector: Callable[[int], Any],
    ) -> None:
        self._source = source
        self._extractor = extractor
        self._decoder = Decoder(extractor, options.image_key, options.decoding)
        self._device = resolve_device(options.device)
        self._options = options
        self._make_collector = make_collector
        #: Exists while the run is unfinished; the caller removes it when the result is safe.
        self.checkpoint: Checkpoint | None = None
        if options.checkpoint is not None:
            self.checkpoint = Checkpoint(options.checkpoint, self._describe_job(), extractor.full_name)
        self._saved = time.monotonic()
        self._collector: Any = None
        self._done = self._done_in_checkpoint = 0
        self._failed = False
        #: Messages about images that were skipped.
        self.skipped: list[str] = []
        #: Index and name of the image of each collected row, without rows from a checkpoint. Without a name, the index.
        self.indices: list[int] = []
        self.names: list[str] = []

    def run(self, open_progress: Callable[..., AbstractContextManager[Any]]) -> Any:
        """Process all images and return the collector.

        Parameters
        ----------
        open_progress : callable
            ``open_progress(initial=done)`` opens a progress bar, of which `done` images are from the checkpoint.

        Raises
        ------
        BrokenImageError
            If an image cannot be read, or its features are not finite, and broken images are not skipped.
        ValueError
            If there are no images, the features are invalid, or the checkpoint is damaged or belongs to another run.
        """
        self._restore()
        updates: deque[Future[None]] = deque()
        precise = full_float32(benchmark=True)
        progress = open_progress(initial=self._done)
        with torch.inference_mode(), precise, ThreadPoolExecutor(1) as updater, progress as bar:
            try:
                for batch in self._batches():
                    if batch.broken and not self._options.skip_broken:
                        raise BrokenImageError(batch.broken[0].broken) from batch.broken[0].cause
                    features = [self._extract(images) for images in batch.tensors]
                    updates.append(updater.submit(self._update, features, batch))
                    _wait_for(updates, but=2)
                    bar.update(batch.size)
                _wait_for(updates)
            except BaseException:
                updater.submit(self._save)  # after the updates that wait; the end of the block waits for it
                raise
        if self._collector is None and self.skipped:
            raise ValueError(f"none of the {len(self.skipped)} images could be used; the first: {self.skipped[0]}")
        if self._collector is None:
            raise ValueError("there are no images")
        if self.checkpoint is not None:
            self.checkpoint.finished = (self._collector, self._done, self.skipped)
        return self._collector

    def _extract(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        features = self._extractor(images.to(self._device, non_blocking=True))
        if len(features) != len(images):
            raise ValueError(f"extractor {self._extractor.name} returned {len(features)} rows for {len(images)} images")
        return _copy_to_host(features)

    def _update(self, features: list[tuple[torch.Tensor, torch.cuda.Event | None]], batch: ImageBatch) -> None:
        """Collect the features of one batch, completely or not at all; nothing after a batch that failed.

        Runs in the updater's thread, which signals do not interrupt.
        """
        if self._failed:
            return
        self._failed = True  # until the batch is complete
        for _, ready in features:
            if ready is not None:
                ready.synchronize()
        skipped = [str(item.broken) for item in batch.broken]
        if features:
            skipped += self._collect([rows for rows, _ in features], batch)
        self.skipped += skipped
        self._done += batch.size
        self._failed = False
        if time.monotonic() - self._saved > CHECKPOINT_INTERVAL:
            self._save()

    def _collect(self, groups: list[torch.Tensor], batch: ImageBatch) -> list[str]:
        """Collect the rows that are finite, and return messages about the others."""
        widths = sorted({group.shape[1] for group in groups})
        if len(widths) > 1:
            sizes = " and ".join(map(str, widths))
            raise ValueError(f"extractor {self._extractor.name}: returned {sizes} features for images of other sizes")
        rows = torch.cat(groups) if len(groups) > 1 else groups[0]
        indices = [self._done + position for position in batch.positions]
        finite = rows.isfinite().all(dim=1)
        kept = finite.nonzero()[:, 0].tolist()
        skipped = []
        for row in (~finite).nonzero()[:, 0].tolist():
            number = f"image {indices[row]}"
            name = number if batch.names[row] is None else f"{batch.names[row]} ({number})"
            if self._source.images is not None:
                name = f"{self._source.images.path_of(indices[row])} ({number})"
            skipped.append(f"{name}: extractor {self._extractor.name}: features hold NaN or infinity")
        if skipped and not self._options.skip_broken:
            raise BrokenImageError(skipped[0])
        if kept:
            if self._collector is None:
                self._collector = self._make_collector(rows.shape[1])
            try:
                self._collector.update(rows if len(kept) == len(rows) else rows[kept])
            except (TypeError, ValueError) as error:
                raise with_message(error, f"extractor {self._extractor.name}: {error}") from error
        self.indices += [indices[row] for row in kept]
        self.names += [str(indices[row]) if (name := batch.names[row]) is None else name for row in kept]
        return skipped

    def _batches(self) -> Iterator[ImageBatch]:
        """The batches that are not in the checkpoint."""
        batch_size, num_workers = self._options.batch_size, self._options.num_workers
        assert batch_size is not None
        if self._source.indexed is None:
            items = itertools.islice(self._source.stream(), self._done, None)
            yield from decoded_batches(items, self._decoder, self._done, batch_size)
            return
        images: Dataset[DecodedImage] = DecodedImages(self._source.indexed, self._decoder)
        total = len(self._source.indexed)
        if self._done > 0:
            images = Subset(images, range(self._done, total))
        if num_workers is None:
            # With start methods other than fork, workers import the caller's script, which must support that.
            use_workers = total - self._done > 2 * batch_size and multiprocessing.get_start_method() == "fork"
            num_workers = default_num_workers(self._device) if use_workers else 0
        yield from DataLoader(
            images,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_main_process,
        )

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _describe_job(self) -> str:
        """Description of the run, which must equal that in a checkpoint; computed before the first image is read."""
        images = self._source.fingerprint(progress=self._options.progress is not False)
        moments = self._make_collector(1)
        blocks = f" {len(moments.blocks)} blocks" if len(moments.blocks) > 1 else ""
        reading = f"{self._options.image_key!r} {self._options.decoding}"
        return f"{images} {reading} {moments.extractor} {digest_of(self._extractor.model)} {moments.precision}{blocks}"

    def _save(self) -> None:
        """Write what is done; runs in the updater's thread, so that a second signal does not interrupt it."""
        if self.checkpoint is not None and self._collector is not None and self._done > self._done_in_checkpoint:
            self.checkpoint.save(self._collector, self._done, self.skipped)
            self._saved, self._done_in_checkpoint = time.monotonic(), self._done

    def _restore(self) -> None:
        found = None if self.checkpoint is None else self.checkpoint.load()
        if found is None:
            return
        moments, progress = found
        if progress.skipped and not self._options.skip_broken:
            raise BrokenImageError(progress.skipped[0])
        self._collector, self.skipped = moments, list(progress.skipped)
        self._done = self._done_in_checkpoint = progress.done


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Make a worker silent after Ctrl-C or a closed terminal, which signal all processes; the main process ends it."""
    for name, handler in (("SIGINT", signal.SIG_IGN), ("SIGHUP", signal.SIG_IGN), ("SIGTERM", signal.SIG_DFL)):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), handler)
    # A thread of multiprocessing prints a traceback if the main process ends while it receives a batch. Errors of the
    # worker itself are sent to the main process.
    sys.excepthook = lambda *error: None


def _copy_to_host(features: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    """Features in host memory, and for a GPU the event after which they are complete."""
    if not features.is_cuda:
        return features.cpu(), None
    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    host.copy_(features, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event


def _wait_for(updates: deque[Future[None]], but: int = 0) -> None:
    """Wait for all updates except the last `but`, and remove them; raise their errors."""
    while len(updates) > but:
        updates[0].result()
        updates.popleft()
