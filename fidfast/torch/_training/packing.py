"""Moments as one tensor, and modules with such a tensor in their ``state_dict``.

`pack` returns a 1-D float64 tensor that is no longer than needed. It is empty for moments without rows. Otherwise it
holds four counts (rows in mean and scatter, pending float32 rows, pending float64 rows, product errors); mean, low
digits of the mean, and scatter if the first count is not zero; the pending rows; and the product errors. Packing and
unpacking are lossless.
"""

from __future__ import annotations

import copy
import zlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fidfast._stats import Moments
from fidfast._warnings import warn_user

__all__ = ["TensorStateModule", "pack", "pack_blocks", "unpack", "unpack_blocks"]

#: Number of pending rows for which `pack_blocks` reserves space.
_RESERVED_ROWS = 1024
#: Number of bytes of the extractor's name that `pack_blocks` keeps.
_NAME_BYTES = 256


def pack(moments: Moments) -> torch.Tensor:
    """All rows of the moments, without dim, precision and extractor, as a tensor in host memory."""
    if moments.num_samples == 0:
        return torch.empty(0, dtype=torch.float64)
    state = moments.merged_blocks().state()
    rows: list[NDArray[Any]] = [state["0/narrow_rows"], state["0/wide_rows"]]
    folded = [state["0/mean"], state["0/mean_low"], state["0/scatter"]] if state["0/count"] > 0 else []
    rest = [*rows, state["0/product_errors"]]
    counts = np.array([state["0/count"], *(len(part) for part in rest)])
    return torch.from_numpy(np.concatenate([part.reshape(-1) for part in (counts, *folded, *rest)], dtype=np.float64))


def unpack(tensor: torch.Tensor, dim: int, *, precision: str, extractor: str | None) -> Moments:
    """Inverse of `pack`.

    Raises
    ------
    ValueError
        If the length of the tensor does not match `dim`.
    """
    if tensor.numel() == 0:
        return Moments(dim, precision=precision, extractor=extractor)
    values = tensor.detach().cpu().double().reshape(-1).numpy()
    counts = (*values[:4].tolist(), 0.0, 0.0, 0.0)[:4]
    if not all(value.is_integer() and 0 <= value <= 2**53 for value in counts):
        raise ValueError(f"the state is damaged: its numbers of rows are {counts}")
    count, narrow, wide, num_errors = map(int, counts)
    columns = (1, 1, dim, narrow, wide) if count > 0 else (0, 0, 0, narrow, wide)
    needed = 4 + dim * sum(columns) + num_errors
    if len(values) != needed:
        n = count + narrow + wide
        raise ValueError(f"the state has {len(values)} numbers, but {n} rows with dim={dim} need {needed}")
    mean, mean_low, scatter, narrow_rows, wide_rows, errors = np.split(values[4:], np.cumsum(columns) * dim)
    return Moments.from_state(
        {
            "dim": np.asarray(dim),
            "precision": np.asarray(precision),
            "extractor": np.asarray(extractor or ""),
            "0/count": np.asarray(count),
            "0/narrow_rows": narrow_rows.reshape(-1, dim).astype(np.float32),
            "0/wide_rows": wide_rows.reshape(-1, dim),
            "0/mean": mean,
            "0/mean_low": mean_low,
            "0/scatter": scatter.reshape(-1, dim),
            "0/product_errors": errors,
        }
    )


def pack_blocks(moments: Moments) -> torch.Tensor:
    """Moments with their blocks, precision and extractor, as a float64 tensor in host memory.

    Its length depends on dim and number of blocks, unless there are pending rows of several dtypes: code that averages
    or loads states in place expects equal shapes. Unused memory is not touched.
    """
    moments = copy.copy(moments)  # other threads may add rows meanwhile
    dim, blocks = moments.dim, [pack(block) for block in moments.blocks]
    name = (moments.extractor or "").encode()[:_NAME_BYTES].ljust(_NAME_BYTES, b"\0")
    header = [dim, moments.precision == "float64", len(blocks), *name, *(len(block) for block in blocks)]
    reserved = len(header) + len(blocks) * (4 + dim * (3 + dim + _RESERVED_ROWS))
    values = np.zeros(max(reserved, len(header) + sum(map(len, blocks))))
    values[: len(header)] = header
    first = len(header)
    for block in blocks:
        values[first : first + len(block)] = block.numpy()
        first += len(block)
    return torch.from_numpy(values)


def unpack_blocks(tensor: torch.Tensor, dim: int, blocks: int, *, extractor: str | None) -> Moments:
    """Inverse of `pack_blocks`; the result has the name `extractor`.

    Raises
    ------
    ValueError
        If the tensor has another dim or number of blocks, or is damaged.

    Warns
    -----
    UserWarning
        If the packed moments are of another extractor.
    """
    values = tensor.detach().cpu().double().reshape(-1)
    if len(values) < 3 + _NAME_BYTES or not values.isfinite().all():
        raise ValueError(f"the state of {len(values)} numbers is damaged")
    if not torch.equal(values[:3], values[:3].round()):
        raise ValueError(f"the state is damaged: dim, precision and blocks are {values[:3].tolist()}")
    found_dim, is_float64, found_blocks = (int(value) for value in values[:3])
    if found_dim != dim:
        raise ValueError(f"the state has dim {found_dim}, but the reference has dim {dim}")
    if found_blocks != blocks:
        raise ValueError(
            f"the state has {found_blocks} blocks, but the metric has {blocks}: "
            f"create it with blocks={found_blocks} to continue"
        )
    name = bytes(int(value) & 255 for value in values[3 : 3 + _NAME_BYTES]).rstrip(b"\0").decode(errors="ignore")
    values = values[3 + _NAME_BYTES :]
    lengths = [int(length) for length in values[:blocks]]
    values = values[blocks:]
    if len(lengths) < blocks or min(lengths) < 0 or sum(lengths) > len(values):
        raise ValueError(f"the state is damaged: {blocks} blocks of {lengths} numbers, but {len(values)} numbers")
    precision = "float64" if is_float64 else "float32"
    parts = values[: sum(lengths)].split(lengths)
    moments = Moments.from_blocks([unpack(part, dim, precision=precision, extractor=extractor) for part in parts])
    if name and extractor and name != extractor.encode()[:_NAME_BYTES].decode(errors="ignore"):
        warn_user(f"the state is of the extractor {name!r}, but the metric has {extractor!r}")
    return moments


class TensorStateModule(torch.nn.Module):
    """A module whose ``state_dict`` has one tensor besides its buffers, for the state that is not in buffers.

    The tensor has the dtype uint8 and ends with a checksum. Conversions to half precision preserve it. If it was
    averaged with another state, loading it warns and leaves the module unchanged. So does, without a warning, a state
    without any entry of the module, such as one saved before the module was added. Buffers and tensor are loaded
    together or not at all. With ``persistent=False``, entries of the module are ignored.
    """

    #: Key of the tensor.
    state_key: str
    #: Whether the state is part of ``state_dict``.
    persistent = True

    def packed_state(self) -> torch.Tensor:
        """The state as a float64 tensor (n,), which shares no memory with it."""
        raise NotImplementedError

    def set_packed_state(self, values: torch.Tensor) -> None:
        """Inverse of `packed_state`; raises a ValueError if the values do not fit this module."""
        raise NotImplementedError

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.persistent:
            values = self.packed_state()
            checksum = torch.tensor([_checksum(values)], dtype=torch.float64, device="cpu")
            destination[prefix + self.state_key] = torch.cat([values, checksum]).view(torch.uint8)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if self.persistent and not any(key.startswith(prefix) for key in state_dict):
            return
        key = prefix + self.state_key
        before = {name: (buffer, buffer.clone()) for name, buffer in self._buffers.items() if buffer is not None}
        num_errors = len(error_msgs)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        own = {key} if self.persistent else {key, *(prefix + name for name in self._buffers)}
        unexpected_keys[:] = [name for name in unexpected_keys if name not in own]
        if not self.persistent:
            return
        needed = [key, *(prefix + name for name in before if name not in self._non_persistent_buffers_set)]
        missing = [name for name in needed if name not in state_dict]
        missing_keys.extend(name for name in missing if name not in missing_keys)
        if not missing and len(error_msgs) == num_errors:
            values = _unsealed(state_dict[key])
            if values is None:
                warn_user(
                    f"{key} is damaged, or was averaged with other states: its checksum does not match. "
                    f"{type(self).__name__} keeps its present state"
                )
            else:
                try:
                    self.set_packed_state(values)
                    return
                except ValueError as error:
                    error_msgs.append(f"{key}: {error}")
        for name, (buffer, copied) in before.items():
            buffer.copy_(copied)
            self._buffers[name] = buffer  # another tensor with ``assign=True``


def _checksum(values: torch.Tensor) -> float:
    return float(zlib.crc32(values.numpy()))


def _unsealed(packed: torch.Tensor) -> torch.Tensor | None:
    """The float64 values of a tensor of a ``state_dict``; None if the checksum does not match."""
    packed = packed.detach().cpu().reshape(-1)
    if packed.is_floating_point():
        packed = packed.round().nan_to_num().clamp(0, 255)
    packed = packed.to(torch.uint8).clone()
    if len(packed) < 8 or len(packed) % 8 != 0:
        return None
    values = packed.view(torch.float64)
    return values[:-1] if values[-1].item() == _checksum(values[:-1]) else None
