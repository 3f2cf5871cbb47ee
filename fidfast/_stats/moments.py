"""Count, mean and scatter of a stream of features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from fidfast import _arguments, _core, cuda
from fidfast._devices import (
    as_backend_input,
    backend_module,
    cuda_device_of,
    device_name,
    device_of_core,
    moments_on_device,
    parse_device,
    to_host,
)
from fidfast._files import check_moments
from fidfast._stats.block_states import blocks_of_state, change_all, state_of_blocks
from fidfast._stats.collector import Collector
from fidfast._stats.gaussian import GaussianStats, stats_from_core
from fidfast._stats.locks import atomic, holding, share_lock
from fidfast._stats.slices import as_rows, update_in_slices

__all__ = ["Moments", "cores_of"]


class Moments(Collector):
    """Count, mean and scatter of a stream of features, in memory that does not grow with the stream.

    Batches may have any size, order and floating-point type, and may come from several threads; the moments of parts
    of the data merge into the moments of all of it. On the CPU, rows of one type give the same bits for every division
    into batches. With float64 rows, or with ``precision="float64"``, the result does not depend on how the rows are
    split into parts, within 1e-12 relative.

    Parameters
    ----------
    dim : int
        Number of columns of the features.
    precision : {"float32", "float64"}, default "float32"
        Arithmetic of the products of float32, float16 and bfloat16 rows within a block of 1,024 rows, after centring,
        from dim 512 on; sums over blocks and rows of float64 are always float64. "float32" is nearly twice as fast and
        changes the distance by about 1e-8 relative, by up to 1e-6 if the eigenvalues of the covariance span many
        decades; the rounding bound of `frechet_terms` includes it.
    extractor : str, optional
        Name of the network that computes the features; stored with the statistics.
    blocks : int, default 1
        Number of parts into which the rows are divided, each with its own matrices. With 20 or more, `estimate` can
        compute the error bar of a stream whose features are not kept. The rows of every batch are distributed over all
        blocks.
    device : {"cpu", "cuda", "cuda:N"}, optional
        Device that holds the moments; features are moved to it. By default the host, until the first features on a
        GPU move the moments to that GPU.

    Raises
    ------
    ValueError
        If `dim` or `blocks` is below 1, or `precision` or `device` is not one of the above.
    RuntimeError
        If the device cannot be used.

    Notes
    -----
    The method of Chan, Golub & LeVeque (1979), with the mean in twice the digits of float64. The memory is 12 to
    16 dim^2 bytes and a block of rows. Up to `dim` rows are stored as rows, for full accuracy at low rank.

    On a GPU all products are float64, all memory (about 34 dim^2 bytes) is allocated at once, and no update waits: the
    device discards a batch with NaN or infinity and all later ones, and the next call that detects it raises the error.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments(dim=4)
    >>> moments.update(np.ones((10, 4)))
    >>> moments
    Moments(dim=4, num_samples=10, precision='float32', extractor=None)
    """

    __slots__ = ("_blocks", "_device_fixed", "_extractor")

    def __init__(
        self,
        dim: int,
        *,
        precision: str = "float32",
        extractor: str | None = None,
        blocks: int = 1,
        device: Any = None,
    ) -> None:
        dim = _arguments.require_integer("dim", dim, 1, _arguments.MAX_DIM)
        blocks = _arguments.require_integer("blocks", blocks, 1, _arguments.MAX_BLOCKS)
        precision = _arguments.require_precision(precision)
        number = None if device is None else parse_device(device)
        module = backend_module(number)
        self._blocks: list[_core.Moments] = [module.Moments(dim, precision, number or 0) for _ in range(blocks)]
        self._extractor = _arguments.optional(_arguments.require_text, "extractor", extractor)
        self._device_fixed = device is not None

    @classmethod
    def _from_cores(cls, blocks: Sequence[_core.Moments], extractor: str | None) -> Moments:
        moments = cls.__new__(cls)
        moments._blocks = list(blocks)
        moments._extractor = extractor
        moments._device_fixed = False
        return moments

    @classmethod
    def from_features(cls, features: Any, *, precision: str = "float32", extractor: str | None = None) -> Moments:
        """Moments of one array or tensor.

        Parameters
        ----------
        features : (n, dim) array or tensor
            As in `update`. A memory map is read in slices.
        precision, extractor
            As in `Moments`.

        Raises
        ------
        TypeError, ValueError
            As `update`.
        """
        features = as_rows(features)
        shape = _arguments.shape_of_array(features)
        if len(shape) != 2:
            features = to_host(features)
        # Without a shape (n, dim) the core inspects the features, and raises if they are not such an array.
        n, dim = shape if len(shape) == 2 else _core.require_finite(features)
        moments = cls(max(dim, 1), precision=precision, extractor=extractor)
        holder = cuda_device_of(features)
        in_slices = holder is None or cuda.extension(holder) is None
        update_in_slices(moments.update, features, n) if in_slices else moments.update(features)
        return moments

    @classmethod
    def from_blocks(cls, blocks: Sequence[Moments]) -> Moments:
        """Moments kept in the given parts; inverse of the property `blocks`.

        Parameters
        ----------
        blocks : sequence of Moments
            At least one, each of one block, with equal `dim`. They are copied.

        Raises
        ------
        ValueError
            If there are none, one has several blocks, or the dims or the extractors differ.
        """
        blocks = _arguments.require_sequence("blocks", blocks, Moments, least=1)
        for i, block in enumerate(blocks):
            if (n := len(block._blocks)) != 1:
                raise ValueError(f"blocks[{i}] has {n} blocks, but each must have 1; pass its merged_blocks()")
            if block.dim != blocks[0].dim:
                raise ValueError(f"blocks must have the same dim, got {blocks[0].dim} and {block.dim}")
            if (other := block.extractor) != blocks[0].extractor:
                raise ValueError(f"blocks must have the same extractor, got {blocks[0].extractor!r}, {other!r}")
        with holding(*blocks):
            cores = [block._blocks[0].copy() for block in blocks]
        return cls._from_cores(cores, blocks[0].extractor)

    def _merged_core(self) -> _core.Moments:
        """The rows of all blocks; the block itself if there is one."""
        if len(self._blocks) == 1:
            return self._blocks[0]
        merged = self._blocks[0].copy()
        for block in self._blocks[1:]:
            merged.merge(block)
        return merged

    @atomic
    def merged_blocks(self) -> Moments:
        """A copy of these moments in one block."""
        core = self._merged_core()
        return Moments._from_cores([core.copy() if core is self._blocks[0] else core], self._extractor)

    @property
    def dim(self) -> int:
        """Number of columns of the features."""
        return self._blocks[0].dim

    @property
    @atomic
    def num_samples(self) -> int:
        """Number of rows seen."""
        return sum(block.num_samples for block in self._blocks)

    @property
    def precision(self) -> str:
        """Arithmetic of the products of rows of float32 and narrower."""
        return self._blocks[0].precision

    @property
    def extractor(self) -> str | None:
        """Name of the network that computes the features, or None if it was not given."""
        return self._extractor

    @property
    def device(self) -> str:
        """Device that holds the moments: "cpu", "cuda:0", ..."""
        return device_name(device_of_core(self._blocks[0]))

    @property
    @atomic
    def blocks(self) -> tuple[Moments, ...]:
        """The blocks as moments that share their memory and their lock with these."""
        return tuple(share_lock(self, Moments._from_cores([block], self._extractor)) for block in self._blocks)

    @atomic
    def update(self, features: Any, *, stream: int | None = None) -> None:
        """Add a batch of features.

        Parameters
        ----------
        features : (n, dim) or (n, dim, 1, 1) array or tensor
            float16, bfloat16, float32 or float64, on the host or a GPU; anything with ``__dlpack__``, with any strides.
            Not copied if the moments are on the same device. ``n`` may be 0.
        stream : int, optional
            For features on a GPU, handle of the stream (``cudaStream_t``) that writes them and may overwrite them after
            they were read. By default the current stream of PyTorch or CuPy; for other libraries the host waits.

        Raises
        ------
        TypeError
            If the features are not an array, or not of a floating-point type.
        ValueError
            If the shape does not match, or a value is NaN or above 2.6e151 in magnitude. The moments stay unchanged.
            On a GPU the latter may be raised by a later call, which names the batch.
        RuntimeError, MemoryError
            If a GPU fails, or is out of memory. The moments stay unchanged.
        """
        features = as_rows(features)
        stream = _arguments.optional(_arguments.require_integer, "stream", stream, 0)
        holder = cuda_device_of(features)
        if holder is None:
            self._update_blocks(features, None)
            return
        device = device_of_core(self._blocks[0])
        if device is None and not self._device_fixed and cuda.extension(holder) is not None:
            self._blocks = [moments_on_device(block, holder) for block in self._blocks]
            device = holder
        for rows, its_stream in as_backend_input(features, holder, device, stream):
            self._update_blocks(rows, its_stream)

    def _update_blocks(self, features: Any, stream: int | None) -> None:
        """Distribute the rows over the blocks; blocks with fewer samples get more of them."""
        if len(self._blocks) == 1:
            self._blocks[0].update(features, stream)
        else:
            backend_module(device_of_core(self._blocks[0])).Moments.update_all(self._blocks, features, stream=stream)

    @atomic
    def merge(self, other: Moments) -> None:
        """Add the rows that `other` has seen.

        Parameters
        ----------
        other : Moments
            With the same ``dim``, and the same number of blocks if these moments have several; not changed.

        Raises
        ------
        ValueError
            If the dims, the numbers of blocks or the extractors differ.
        """
        pairs = self._matched_blocks(other, "merge")
        if self._extractor and other._extractor and self._extractor != other._extractor:
            raise ValueError(f"cannot merge moments of the extractors {self._extractor!r} and {other._extractor!r}")
        change_all("merge", pairs)
        self._extractor = self._extractor or other._extractor

    def _matched_blocks(self, other: Moments, operation: str) -> list[tuple[_core.Moments, _core.Moments]]:
        """Pairs of blocks on one device; a single block is matched with all blocks of `other` merged."""
        device = device_of_core(self._blocks[0])
        _arguments.require_instance("other", other, Moments)
        if len(self._blocks) == 1:
            return [(self._blocks[0], moments_on_device(other._merged_core(), device))]
        mine, theirs = len(self._blocks), len(other._blocks)
        if mine != theirs:
            raise ValueError(f"cannot {operation} moments of blocks={theirs} and blocks={mine}")
        pairs = zip(self._blocks, other._blocks, strict=True)
        return [(block, moments_on_device(another, device)) for block, another in pairs]

    @atomic
    def unmerge(self, other: Moments) -> None:
        """Remove the rows that `other` has seen, the inverse of `merge`: for sliding windows or leave-one-block-out.

        Parameters
        ----------
        other : Moments
            Moments of rows that were added before, to the same blocks if there are several; not changed.

        Raises
        ------
        ValueError
            If the dims or numbers of blocks differ, `other` has more samples, or its samples cannot be part of these.
        """
        change_all("unmerge", self._matched_blocks(other, "unmerge"))

    @atomic
    def reset(self) -> None:
        """Remove all rows."""
        if len(self._blocks) == 1:
            self._blocks[0].reset()
        else:
            empty = [type(block)(block.dim, block.precision, block.device) for block in self._blocks]
            type(empty[0]).exchange(self._blocks, empty)

    @atomic
    def assign(self, other: Moments) -> None:
        """Replace all rows, and the extractor, by copies of those of `other`; the device stays the same.

        Raises
        ------
        ValueError, MemoryError, RuntimeError
            If the dims differ, or the copies cannot be allocated. The moments stay unchanged.
        """
        if _arguments.require_instance("other", other, Moments).dim != self.dim:
            raise ValueError(f"cannot assign moments of dim={other.dim} to moments of dim={self.dim}")
        device = device_of_core(self._blocks[0])
        moved = [(block, moments_on_device(block, device)) for block in other._blocks]
        self._blocks = [block.copy() if copied is block else copied for block, copied in moved]
        self._extractor = other._extractor

    @atomic
    def stats(self, *, ddof: int = 1) -> GaussianStats:
        """Mean and covariance of the rows seen so far. Changes nothing.

        Parameters
        ----------
        ddof : int, default 1
            The covariance is the scatter divided by ``num_samples - ddof``: 1 is unbiased, 0 the maximum likelihood.

        Raises
        ------
        ValueError
            If fewer than 2 rows were seen, or `ddof` is not below that number.
        """
        ddof = _arguments.require_integer("ddof", ddof)
        return stats_from_core(self._merged_core().stats(ddof), self._extractor, ddof)

    @atomic
    def state(self) -> dict[str, NDArray[Any]]:
        """The moments as named arrays in host memory.

        Returns
        -------
        dict of str to ndarray
            ``dim``, ``precision`` and ``extractor`` (empty if not given); and for each block ``k``, from 0, ``k/count``
            (number of rows in mean and scatter), ``k/mean``, ``k/mean_low`` (dim,), ``k/scatter`` (dim, dim) and its
            ``k/product_errors``, and the rows not in them yet, ``k/narrow_rows`` (m, dim) float32, ``k/wide_rows``.
        """
        return state_of_blocks(self._blocks, self._extractor)

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> Moments:
        """Inverse of `state`; the moments are in host memory.

        Raises
        ------
        KeyError, TypeError, ValueError
            If the state is invalid.
        """
        check_moments(_arguments.require_mapping("state", state))
        return cls._from_cores(*blocks_of_state(state))

    @atomic
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Moments):
            return NotImplemented
        if self._extractor != other._extractor or len(self._blocks) != len(other._blocks):
            return False
        return all(mine.equals(theirs) for mine, theirs in self._matched_blocks(other, "compare"))

    __hash__ = None  # mutable

    @atomic
    def __repr__(self) -> str:
        blocks = f", blocks={len(self._blocks)}" if len(self._blocks) > 1 else ""
        device = f", device={self.device!r}" if self.device != "cpu" else ""
        return (
            f"Moments(dim={self.dim}, num_samples={self.num_samples}, precision={self.precision!r}, "
            f"extractor={self.extractor!r}{blocks}{device})"
        )

    @atomic
    def __copy__(self) -> Moments:
        copied = Moments._from_cores([block.copy() for block in self._blocks], self._extractor)
        copied._device_fixed = self._device_fixed
        return copied


def cores_of(moments: Iterable[Moments]) -> list[_core.Moments]:
    """The blocks of all moments."""
    return [block for each in moments for block in each._blocks]
