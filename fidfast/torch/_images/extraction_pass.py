"""One pass over images: workers decode, the networks run in the main thread, and a second thread collects features.

On CUDA, batches are copied from pinned memory and features are copied back to it, and the loop waits for neither. This
part has not been run on a GPU.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Subset

from fidfast._errors import with_message
from fidfast._images import BrokenImageError
from fidfast.torch._extractors.arithmetic import full_float32
from fidfast.torch._extractors.extractor import features_of, output_of
from fidfast.torch._images.batches import (
    DecodedImage,
    DecodedImages,
    Decoder,
    ImageBatch,
    Resize,
    Stack,
    collate,
    decoded_batches,
    resize_of,
)
from fidfast.torch._images.checkpoint import Checkpoint
from fidfast.torch._images.collectors import Collected, FeatureCollector, Need
from fidfast.torch._images.joining import PartSummary
from fidfast.torch._images.options import ImageOptions, default_num_workers, resolve_device
from fidfast.torch._images.sources import ImageSource

__all__ = ["ExtractionPass", "moments_options"]

#: Seconds between checkpoints that take up to `_QUICK` seconds to write; longer in proportion if they take longer, so
#: that writing takes a thirtieth of the time at most.
CHECKPOINT_INTERVAL = 60.0
_QUICK = 2.0

_Features = tuple[torch.Tensor, torch.cuda.Event | None]


class ExtractionPass:
    """One pass over images that collects the features of several extractors.

    Each image is decoded once and resized once in each way, and a network runs once for all extractors that have it and
    its input in common. An image of which one extractor returns NaN or infinity is skipped for all.

    Parameters
    ----------
    source : ImageSource
    needs : sequence of Need
        With extractors that are prepared, and on the device of `options`. Those that are empty do not run.
    options : ImageOptions
        With device and batch size.
    checkpoint : Checkpoint, optional
        Exists while the run is unfinished; the caller removes it when the result is safe.
    processes : int, default 1
        Number of processes that share the cores of this machine.
    """

    def __init__(
        self,
        source: ImageSource,
        needs: Sequence[Need],
        options: ImageOptions,
        checkpoint: Checkpoint | None,
        processes: int = 1,
    ) -> None:
        self._source = source
        self._device = resolve_device(options.device)
        self._options = options
        self._checkpoint = checkpoint
        self._processes = processes
        length = None if source.indexed is None else source.length
        #: By number of the need.
        self._collectors = {
            number: FeatureCollector(need, moments_options(need, options), length)
            for number, need in enumerate(needs)
            if not need.is_empty
        }
        resizes = list(dict.fromkeys(resize_of(one.extractor) for one in self._collectors.values()))
        self._decoder = Decoder(resizes, options.image_key, options.decoding)
        self._calls = [_calls(self._collectors, resize) for resize in resizes]
        self._saved, self._interval = time.monotonic(), CHECKPOINT_INTERVAL
        #: Number of images that were used.
        self.num_samples = 0
        self._done = self._done_in_checkpoint = 0
        self._failed = False
        #: Messages about images that were skipped.
        self.skipped: list[str] = []
        self._has_rows = any(need.rows for need in needs)
        #: Index and name of the image of each row if rows are collected. Without a name, the index.
        self.indices: list[int] = []
        self.names: list[str] = []

    def run(self, open_progress: Callable[..., AbstractContextManager[Any]]) -> dict[int, Collected]:
        """Process all images and return what was collected, by number of the need; there may be no images.

        Parameters
        ----------
        open_progress : callable
            ``open_progress(initial=done)`` opens a progress bar, of which `done` images are from the checkpoint.

        Raises
        ------
        BrokenImageError
            If an image cannot be read, or its features are not finite, and broken images are not skipped.
        ValueError
            If the features are invalid, or the checkpoint is damaged or belongs to another run.
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
                    updates.append(updater.submit(self._update, self._extract(batch), batch))
                    _wait_for(updates, but=2)
                    bar.update(batch.size)
                _wait_for(updates)
            except BaseException:
                updater.submit(self._save)  # after the updates that wait; the end of the block waits for it
                raise
        if self._checkpoint is not None and self.num_samples > 0:
            self._checkpoint.finished = lambda: (self._state(), self._done, self.skipped)
        return {number: collector.collected() for number, collector in self._collectors.items()}

    def summary(self) -> PartSummary:
        """What other processes need to know, after `run`."""
        dims = {number: collector.dim for number, collector in self._collectors.items()}
        return PartSummary(self.num_samples, self.skipped, self.names, self.indices, dims)

    def _extract(self, batch: ImageBatch) -> dict[int, list[_Features]]:
        """The features of each collector, for each stack of its input."""
        found: dict[int, list[_Features]] = {number: [] for number in self._collectors}
        for stacks, calls in zip(batch.inputs, self._calls, strict=False):
            for stack in stacks:
                pixels = stack.pixels.to(self._device, non_blocking=True)
                for numbers in calls:
                    output = output_of(self._collectors[numbers[0]].extractor, pixels)
                    for number in numbers:
                        found[number].append(self._features(number, output, stack))
        return found

    def _features(self, number: int, output: Any, stack: Stack) -> _Features:
        extractor = self._collectors[number].extractor
        features = features_of(extractor, output)
        if len(features) != len(stack.rows):
            raise ValueError(f"extractor {extractor.name} returned {len(features)} rows for {len(stack.rows)} images")
        return _copy_to_host(features)

    def _update(self, features: dict[int, list[_Features]], batch: ImageBatch) -> None:
        """Collect the features of one batch; nothing after a batch that failed.

        Runs in the updater's thread, which signals do not interrupt.
        """
        if self._failed:
            return
        self._failed = True  # until the batch is complete
        for _, ready in itertools.chain(*features.values()):
            if ready is not None:
                ready.synchronize()
        skipped = [str(item.broken) for item in batch.broken]
        if batch.positions:
            skipped += self._collect(features, batch)
        self.skipped += skipped
        self._done += batch.size
        self._failed = False
        if time.monotonic() - self._saved > self._interval:
            self._save()

    def _collect(self, features: dict[int, list[_Features]], batch: ImageBatch) -> list[str]:
        """Collect the rows that are finite for all extractors, and return messages about the others."""
        orders = [[row for stack in stacks for row in stack.rows] for stacks in batch.inputs]
        rows: dict[int, torch.Tensor] = {}
        broken: dict[int, str] = {}
        for calls, order in zip(self._calls, orders, strict=True):
            for number in itertools.chain(*calls):
                collector = self._collectors[number]
                rows[number] = collector.joined([one for one, _ in features[number]], order)
                for row in (~rows[number].isfinite().all(dim=1)).nonzero()[:, 0].tolist():
                    broken.setdefault(row, collector.extractor.name)
        indices = [self._source.first + self._done + position for position in batch.positions]
        skipped = [
            f"{self._name_of(row, indices, batch)}: extractor {extractor}: features hold NaN or infinity"
            for row, extractor in sorted(broken.items())
        ]
        if skipped and not self._options.skip_broken:
            raise BrokenImageError(skipped[0])
        kept = [row for row in range(len(indices)) if row not in broken]
        if not kept:
            return skipped
        for number, collector in self._collectors.items():
            try:
                collector.update(rows[number] if not broken else rows[number][kept])
            except (TypeError, ValueError) as error:
                raise with_message(error, f"extractor {collector.extractor.name}: {error}") from error
        self.num_samples += len(kept)
        if self._has_rows:
            self.indices += [indices[row] for row in kept]
            self.names += [str(indices[row]) if (name := batch.names[row]) is None else name for row in kept]
        return skipped

    def _name_of(self, row: int, indices: list[int], batch: ImageBatch) -> str:
        """The name of an image, and its number among all images."""
        number, name = f"image {indices[row]}", batch.names[row]
        if self._source.images is not None:
            name = self._source.images.path_of(indices[row] - self._source.first)
        return number if name is None else f"{name} ({number})"

    def _batches(self) -> Iterator[ImageBatch]:
        """The batches that are not in the checkpoint."""
        batch_size, num_workers = self._options.batch_size, self._options.num_workers
        assert batch_size is not None
        if self._source.indexed is None:
            items = itertools.islice(self._source.stream(), self._done, None)
            yield from decoded_batches(items, self._decoder, self._source.first + self._done, batch_size)
            return
        images: Dataset[DecodedImage] = DecodedImages(self._source.indexed, self._decoder, self._source.first)
        total = len(self._source.indexed)
        if self._done > 0:
            images = Subset(images, range(self._done, total))
        if num_workers is None:
            # With start methods other than fork, workers import the caller's script, which must support that.
            use_workers = total - self._done > 2 * batch_size and multiprocessing.get_start_method() == "fork"
            num_workers = default_num_workers(self._device, self._processes) if use_workers else 0
        yield from DataLoader(
            images,
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals_to_the_main_process,
        )

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write what is done; runs in the updater's thread, so that a second signal does not interrupt it."""
        if self._checkpoint is None or self.num_samples == 0 or self._done == self._done_in_checkpoint:
            return
        if any(collector.counts() != {self.num_samples} for collector in self._collectors.values()):
            return  # a batch failed halfway; an earlier checkpoint stays
        begin = time.monotonic()
        self._checkpoint.save(self._state(), self._done, self.skipped)
        self._saved, self._done_in_checkpoint = time.monotonic(), self._done
        self._interval = CHECKPOINT_INTERVAL * max(1.0, (self._saved - begin) / _QUICK)

    def _state(self) -> dict[str, NDArray[Any]]:
        """Everything collected, as named arrays: ``0/moments/...``, ``0/rows``, ``0/score/...`` of the first need."""
        extractors = [collector.extractor.full_name for collector in self._collectors.values()]
        state: dict[str, NDArray[Any]] = {
            "num_samples": np.array(self.num_samples),
            "extractors": np.array(" ".join(extractors)),
        }
        if self._has_rows:
            state["indices"] = np.array(self.indices, np.int64)
            state["names"] = np.frombuffer(json.dumps(self.names).encode(), np.uint8)
        for number, collector in self._collectors.items():
            state.update({f"{number}/{key}": value for key, value in collector.state().items()})
        return state

    def _restore(self) -> None:
        """Continue from the checkpoint, unless it lacks something that was in the cache when it was written."""
        found = None if self._checkpoint is None else self._checkpoint.load()
        if found is None:
            return
        state, progress = found
        parts = {number: _part(state, f"{number}/") for number in self._collectors}
        if not all(collector.is_in(parts[number]) for number, collector in self._collectors.items()):
            return
        if progress.skipped and not self._options.skip_broken:
            raise BrokenImageError(progress.skipped[0])
        for number, collector in self._collectors.items():
            collector.restore(parts[number])
        self.num_samples, self.skipped = int(state["num_samples"]), list(progress.skipped)
        self._done = self._done_in_checkpoint = progress.done
        if self._has_rows:
            self.indices, self.names = state["indices"].tolist(), json.loads(state["names"].tobytes())


def moments_options(need: Need, options: ImageOptions) -> dict[str, Any]:
    """Keyword arguments of the `Moments` of a need."""
    return {"precision": options.precision_of_moments, "extractor": need.extractor.full_name, "blocks": options.blocks}


def _part(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _calls(collectors: Mapping[int, FeatureCollector], resize: Resize) -> list[list[int]]:
    """The numbers of the collectors with this resize, those together for which one call of the network suffices."""
    calls: dict[Any, list[int]] = {}
    for number, collector in collectors.items():
        one = collector.extractor
        if resize_of(one) == resize:
            calls.setdefault((id(one.model), one.offset, one.divisor, one.takes_uint8), []).append(number)
    return list(calls.values())


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
