"""Moments over the processes of JAX, and in its checkpoints.

>>> import fidfast.jax
>>> moments.update(features)  # a jax.Array (n, dim), in each process of jax.distributed  # doctest: +SKIP
>>> fidfast.jax.all_reduce(moments)  # doctest: +SKIP

Arrays of JAX need no function of this module: `fidfast.fid`, `Moments.update` and all others accept them by DLPack.
"""

from __future__ import annotations

from typing import Any

try:
    import jax as _jax
except ImportError as error:
    raise ImportError("fidfast.jax needs jax: pip install 'fidfast[jax]'") from error

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fidfast._arguments import as_array, require_instance
from fidfast._stats import Moments, holding, pack, pack_blocks, unpack, unpack_blocks

__all__ = ["all_reduce", "from_array", "to_array"]

#: Version of what `all_reduce` sends.
_FORMAT = 1


def all_reduce(moments: Moments) -> None:
    """Replace the moments in every process by those of all rows that the processes have seen.

    The result has the same bits in every process. No features are sent: in about ``log2(processes)``
    rounds each process exchanges its moments, ``8 dim^2`` bytes, with one other, and merges them. The arrays are sent
    as integers, so ``jax_enable_x64`` is not needed. The result depends on the distribution of the rows over the
    processes only through rounding: 1e-12 relative with float64 products, about 1e-8 of the distance with float32
    products.

    Parameters
    ----------
    moments : Moments
        With the same `dim`, `precision`, number of blocks and extractor (or None) in every process; changed in place.
        It may be empty.

    Raises
    ------
    ValueError
        In every process, if the moments of two processes do not match; the message names the processes and both values.

    Notes
    -----
    All processes of ``jax.distributed`` must make the call. With one process it changes nothing. If a process fails
    during the exchange, for example with MemoryError, the others wait for it as in any collective operation of JAX;
    the moments that are given are unchanged until the last round.

    Chan, Golub & LeVeque (1979), equation 2.1.
    """
    require_instance("moments", moments, Moments)
    if _jax.process_count() == 1:
        return
    with holding(moments):
        extractor = _require_equal(moments)
        blocks = [_reduced(block, extractor) for block in moments.blocks]
        moments.assign(Moments.from_blocks(blocks))


def to_array(moments: Moments) -> NDArray[np.uint8]:
    """Moments as an array of bytes, which Orbax and other checkpoints of JAX store as it is.

    Parameters
    ----------
    moments : Moments

    Returns
    -------
    ndarray (k,) of uint8
        k depends on dim and number of blocks only, unless there are pending rows of several dtypes: about
        ``8 dim (dim + 1027)`` for each block. Bytes, because JAX would round float64 to float32.
    """
    return pack_blocks(require_instance("moments", moments, Moments)).view(np.uint8)


def from_array(array: ArrayLike) -> Moments:
    """Inverse of `to_array`, with identical results.

    Parameters
    ----------
    array : array (k,) of uint8
        Of NumPy or JAX.

    Raises
    ------
    TypeError, ValueError
        If the array is not from `to_array`.
    """
    values = np.ascontiguousarray(as_array("array", array))
    if values.dtype != np.uint8 or values.ndim != 1:
        raise TypeError(f"array must be uint8 (k,) from to_array, got {values.dtype} of shape {values.shape}")
    if len(values) % 8:
        raise ValueError(f"array is damaged: it has {len(values)} bytes, which is not a multiple of 8")
    try:
        return unpack_blocks(values.view(np.float64))
    except ValueError as error:
        raise ValueError(f"array: {error}") from error


# Exchange ------------------------------------------------------------------------------------------------------------


def _require_equal(moments: Moments) -> str | None:
    """Raise the same ValueError in every process unless the moments match; return the name of the extractor."""
    name = (moments.extractor or "").encode()
    described = {
        "version of fidfast's all_reduce": str(_FORMAT),
        "dim": str(moments.dim),
        "number of blocks": str(len(moments.blocks)),
        "precision": repr(moments.precision),
        "extractor": name.decode(),
    }
    texts = _gathered_texts("\n".join(described.values()))
    lines = [text.split("\n", len(described) - 1) for text in texts]
    for number, what in enumerate(described):
        owners: dict[str, list[int]] = {}
        for process, line in enumerate(lines):
            value = line[number] if number < len(line) else "nothing"
            if value or what != "extractor":
                owners.setdefault(value, []).append(process)
        if len(owners) > 1:
            found = " and ".join(f"{value} on process {', '.join(map(str, each))}" for value, each in owners.items())
            raise ValueError(f"all processes must have the same {what}, got {found}")
        if what == "extractor":
            return next(iter(owners), None)
    return None


def _gathered_texts(text: str) -> list[str]:
    """The texts of all processes."""
    from jax.experimental import multihost_utils

    encoded = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(encoded)], np.int32)).reshape(-1)
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(encoded)] = encoded
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:length].tobytes().decode() for row, length in zip(rows, lengths.tolist(), strict=True)]


def _reduced(moments: Moments, extractor: str | None) -> Moments:
    """The rows of all processes.

    Processes beyond the largest power of 2 give their moments to a partner first, and get the result last. The others
    exchange theirs with the process whose number differs in one bit. Both merge them in the order of the processes, so
    that all processes have the same bits.
    """
    process, size = _jax.process_index(), _jax.process_count()
    half = 1 << (size.bit_length() - 1)
    extra = size - half
    total = moments
    if extra:
        received = _exchange(total, [(half + k, k) for k in range(extra)], extractor)
        if process < extra:
            total = total + received
    step = 1
    while step < half:
        received = _exchange(total, [(k, k ^ step) for k in range(half)], extractor)
        if process < half:
            total = total + received if process & step == 0 else received + total
        step *= 2
    if extra:
        received = _exchange(total, [(k, half + k) for k in range(extra)], extractor)
        if process >= half:
            total = received
    return total


def _exchange(moments: Moments, pairs: list[tuple[int, int]], extractor: str | None) -> Moments:
    """Send the moments of each first process of a pair to the second; the moments that this process receives."""
    packed = pack(moments).view(np.uint32)
    received = _permuted(packed, pairs)
    return unpack(received.view(np.float64), moments.dim, precision=moments.precision, extractor=extractor)


def _permuted(words: NDArray[np.uint32], pairs: list[tuple[int, int]]) -> NDArray[np.uint32]:
    """Send an array (k,) of each first process of a pair to the second; an empty one is received by the others."""
    from jax.experimental import multihost_utils

    devices = [_first_device(process) for process in range(_jax.process_count())]
    mesh = _jax.sharding.Mesh(np.array(devices), ("process",))
    spec = _jax.sharding.PartitionSpec("process")
    lengths = multihost_utils.process_allgather(np.array([len(words)], np.int32)).reshape(-1)
    # The same length in all processes; a power of 2, so that few lengths are compiled.
    padded = np.zeros((1, 1 << int(lengths.max()).bit_length()), np.uint32)
    padded[0, : len(words)] = words
    own = devices[_jax.process_index()]
    array = _jax.make_array_from_single_device_arrays(
        (len(devices), padded.shape[1]), _jax.sharding.NamedSharding(mesh, spec), [_jax.device_put(padded, own)]
    )
    permute = _jax.shard_map(
        lambda shard: _jax.lax.ppermute(shard, "process", pairs), mesh=mesh, in_specs=spec, out_specs=spec
    )
    received: NDArray[np.uint32] = np.asarray(_jax.jit(permute)(array).addressable_shards[0].data)[0]
    senders = {receiver: sender for sender, receiver in pairs}
    sender = senders.get(_jax.process_index())
    return received[: 0 if sender is None else int(lengths[sender])]


def _first_device(process: int) -> Any:
    return min((each for each in _jax.devices() if each.process_index == process), key=lambda each: each.id)
