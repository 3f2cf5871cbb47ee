"""Count, mean and scatter of a stream of features."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from typing import Any

from fidfast import _core, cuda
from fidfast import _devices as devices
from fidfast._files import formats
from fidfast._stats.collector import Mergeable
from fidfast._stats.gaussian import GaussianStats

__all__ = ["Moments"]


class Moments(Mergeable):
    """Count, mean and scatter of a stream of features, in memory that does not grow with the stream.

    Batches may come in any size, order and floating-point type, from several threads; moments of parts of the data
    merge to the moments of the whole. Rows of float64, or any rows with ``precision="float64"``, give the same
    result within 1e-12 relative however they are split.

    Parameters
    ----------
    dim : int
        Number of columns of the features.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic in which rows of float32, float16 and bfloat16 are multiplied within a block of 1,024 rows, after
        centring, from dim 512 on. Sums over blocks are always float64. "float32" is nearly twice as fast and moves
        the distance by less than 3e-7 relative. Rows of float64 are always multiplied in float64.
    extractor : str, optional
        Name of the network that makes the features; passed on to the statistics.
    blocks : int, default 1
        In how many parts the moments are kept, each of them as large as the whole. From some 20, `estimate` tells the
        error bar of a stream whose features are not kept. The rows of a batch are dealt out to all of them.
    device : {"cpu", "cuda", "cuda:N"}, optional
        Where the moments lie, and features go. Unless given, on the host until features come that lie on a GPU, and
        from then on there.

    Raises
    ------
    ValueError
        If `dim` or `blocks` is below 1, `precision` is neither of the two, or `device` none.
    RuntimeError
        If that device cannot be used.

    Notes
    -----
    Chan, Golub & LeVeque (1979), with the mean in twice the digits of float64. Memory is the scatter
    (8 dim^2 bytes), once more as much or half as much for the products, and a block of rows. While there are no more
    rows than columns, the rows themselves are kept: their statistics have full accuracy at low rank.

    On a GPU all products are float64, all memory (34 dim^2 bytes or so) is taken at once, and no update waits: the
    device itself leaves out a batch that holds NaN or infinity, and all that come after it, and the error is raised by
    the next call that finds out.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments(dim=4)
    >>> moments.update(np.ones((10, 4)))
    >>> moments
    Moments(dim=4, num_samples=10, precision='float32', extractor=None)
    """

    __slots__ = ("_blocks", "_extractor", "_stays")

    def __init__(
        self,
        dim: int,
        precision: str = "float32",
        extractor: str | None = None,
        *,
        blocks: int = 1,
        device: Any = None,
    ) -> None:
        if operator.index(blocks) < 1:
            raise ValueError(f"blocks must be at least 1, got {blocks}")
        place = None if device is None else devices.number_of(device)
        module = devices.core_at(place)
        self._blocks: list[_core.Moments] = [module.Moments(dim, precision, place or 0) for _ in range(blocks)]
        self._extractor = extractor
        self._stays = device is not None

    @classmethod
    def _of_blocks(cls, blocks: Sequence[_core.Moments], extractor: str | None) -> Moments:
        moments = cls.__new__(cls)
        moments._blocks = list(blocks)
        moments._extractor = extractor
        moments._stays = False
        return moments

    def _whole(self) -> _core.Moments:
        """All blocks as one."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        whole = self._blocks[0].copy()
        for block in self._blocks[1:]:
            whole.merge(block)
        return whole

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return self._blocks[0].dim

    @property
    def num_samples(self) -> int:
        """Number of rows seen."""
        return sum(block.num_samples for block in self._blocks)

    @property
    def precision(self) -> str:
        """Arithmetic of the products of rows of float32 and narrower."""
        return self._blocks[0].precision

    @property
    def extractor(self) -> str | None:
        """Name of the network that makes the features, or None where it is not known."""
        return self._extractor

    @property
    def device(self) -> str:
        """Where the moments lie: "cpu", "cuda:0", ..."""
        return devices.name_of(devices.device_of_core(self._blocks[0]))

    @property
    def blocks(self) -> tuple[Moments, ...]:
        """The parts in which the moments are kept, which together are these moments."""
        return tuple(Moments._of_blocks([block], self._extractor) for block in self._blocks)

    def update(self, features: Any, *, stream: int | None = None) -> None:
        """Add a batch of features.

        Parameters
        ----------
        features : (n, dim) array or tensor
            float16, bfloat16, float32 or float64, on the host or a GPU; anything with ``__dlpack__``, with any
            strides. Borrowed, not copied, where they and the moments lie in one place. ``n`` may be 0.
        stream : int, optional
            Of features on a GPU, handle of the stream (``cudaStream_t``) that writes them, and may write there again
            once they were read. PyTorch and CuPy tell it themselves; without it, of others, the host waits.

        Raises
        ------
        TypeError
            If the features are no array, or not of a floating-point type.
        ValueError
            If the shape does not fit, or a value is NaN or infinite. The moments stay as they were. On a GPU the latter
            may come from a later call, which names the batch.
        RuntimeError, MemoryError
            If a GPU fails, or has no more memory. The moments stay as they were.
        """
        self._follow(devices.cuda_device_of(features))
        for rows, its_stream in devices.presented(features, devices.device_of_core(self._blocks[0]), stream):
            self._update(rows, its_stream)

    def _follow(self, device: int | None) -> None:
        """To the GPU that holds the features, unless it was said where these moments are."""
        lies_on = devices.device_of_core(self._blocks[0])
        if device is None or self._stays or lies_on is not None or cuda.extension(device) is None:
            return
        self._blocks = [devices.moved(block, device) for block in self._blocks]

    def _update(self, features: Any, stream: int | None) -> None:
        """Features that the blocks take as they are."""
        if len(self._blocks) == 1:
            self._blocks[0].update(features, stream)
            return
        module, device = devices.core_at(devices.device_of_core(self._blocks[0])), self._blocks[0].device
        n, _ = module.require_finite(features, device, stream)  # all of them before any block takes its share
        each, more = divmod(n, len(self._blocks))
        first = 0
        for place, block in enumerate(sorted(self._blocks, key=lambda block: block.num_samples)):
            end = first + each + (place < more)
            block.update(features[first:end], stream)  # the first of them raises where the columns do not fit
            first = end

    def merge(self, other: Moments) -> None:
        """Add the rows that `other` has seen.

        Parameters
        ----------
        other : Moments
            Of the same ``dim``, and the same number of blocks where this has several; stays as it is.

        Raises
        ------
        ValueError
            If the dims, the blocks or the extractors differ.
        """
        if self._extractor and other._extractor and self._extractor != other._extractor:
            raise ValueError(f"cannot merge moments of the extractors {self._extractor!r} and {other._extractor!r}")
        for mine, theirs in self._pairs(other, "merge"):
            mine.merge(theirs)
        self._extractor = self._extractor or other._extractor

    def _pairs(self, other: Moments, verb: str) -> list[tuple[_core.Moments, _core.Moments]]:
        """Block by block; a single block takes all others."""
        place = devices.device_of_core(self._blocks[0])
        if len(self._blocks) == 1:
            return [(self._blocks[0], devices.moved(other._whole(), place))]
        if len(self._blocks) != len(other._blocks):
            raise ValueError(
                f"cannot {verb} moments of {len(other._blocks)} blocks and moments of {len(self._blocks)} blocks"
            )
        return [(mine, devices.moved(theirs, place)) for mine, theirs in zip(self._blocks, other._blocks, strict=True)]

    def unmerge(self, other: Moments) -> None:
        """Take out the rows that `other` has seen, the inverse of `merge`: sliding windows, leave-a-block-out.

        Parameters
        ----------
        other : Moments
            Of rows that were added before, to the same blocks where there are several; stays as it is.

        Raises
        ------
        ValueError
            If the dims or blocks differ, `other` has more samples, or its samples cannot have been part of these.
        """
        pairs = self._pairs(other, "unmerge")
        rests = [mine.copy() for mine, _ in pairs] if len(pairs) > 1 else [pairs[0][0]]
        for rest, (_, theirs) in zip(rests, pairs, strict=True):
            rest.unmerge(theirs)
        self._blocks = rests  # all of them, or the first that raises none

    def reset(self) -> None:
        """Forget every row."""
        for block in self._blocks:
            block.reset()

    def stats(self, ddof: int = 1) -> GaussianStats:
        """Mean and covariance of the rows seen so far. Changes nothing.

        Parameters
        ----------
        ddof : int, default 1
            The covariance is the scatter divided by ``num_samples - ddof``: 1 is unbiased, 0 the maximum likelihood.

        Raises
        ------
        ValueError
            If fewer than 2 rows were seen, or `ddof` is not below their number.
        """
        return GaussianStats._of_core(self._whole().stats(ddof), self._extractor, ddof)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, from which `load` goes on with the same digits.

        Parameters
        ----------
        path : path
            Where to write; ``.npz`` is appended where the name does not end in it. The file appears whole or not at
            all.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        formats.write_checkpoint(path, formats.Checkpoint(self._blocks, self._extractor))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Moments:
        """Read a checkpoint that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged or no checkpoint of moments.
        """
        content = formats.read(path)
        if not isinstance(content, formats.Checkpoint):
            raise ValueError(f"{os.fspath(path)} holds {content.what}, not a checkpoint of Moments")
        return cls._of_blocks(content.blocks, content.extractor)

    @classmethod
    def _of_features(cls, features: Any, precision: str, extractor: str | None = None) -> Moments:
        """The moments of one array or tensor, read in slices so that a memory map is never in memory whole."""
        shape = getattr(features, "shape", ())
        if len(shape) != 2:
            features = devices.on_host(features)
        # Where there is no (n, dim) to be seen the core looks, and raises for what is no such array.
        n, dim = map(int, shape) if len(shape) == 2 else _core.require_finite(features)
        moments = cls(max(dim, 1), precision, extractor)
        if n <= formats.ROWS_AT_A_TIME:
            moments.update(features)  # whole: it need not be sliceable
            return moments
        for first in range(0, n, formats.ROWS_AT_A_TIME):
            moments.update(features[first : first + formats.ROWS_AT_A_TIME])
        return moments

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        if self._extractor != other._extractor or len(self._blocks) != len(other._blocks):
            return False
        place = devices.device_of_core(self._blocks[0])
        pairs = zip(self._blocks, other._blocks, strict=True)
        return all(mine.equals(devices.moved(theirs, place)) for mine, theirs in pairs)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        blocks = f", blocks={len(self._blocks)}" if len(self._blocks) > 1 else ""
        device = f", device={self.device!r}" if self.device != "cpu" else ""
        return (
            f"Moments(dim={self.dim}, num_samples={self.num_samples}, precision={self.precision!r}, "
            f"extractor={self.extractor!r}{blocks}{device})"
        )

    def __copy__(self) -> Moments:
        copied = Moments._of_blocks([block.copy() for block in self._blocks], self._extractor)
        copied._stays = self._stays
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, ([block.state() for block in self._blocks], self._extractor)


def _unpickle(states: Sequence[_core.MomentsState], extractor: str | None) -> Moments:
    return Moments._of_blocks([_core.Moments.from_state(state) for state in states], extractor)
