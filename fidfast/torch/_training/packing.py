"""Moments as one tensor, and modules with such a tensor in their ``state_dict``."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch

from fidfast import _stats
from fidfast._stats import Moments
from fidfast._warnings import warn_user

__all__ = ["TensorStateModule", "pack", "pack_blocks", "unpack", "unpack_blocks"]


def pack(moments: Moments) -> torch.Tensor:
    """`_stats.packing.pack` as a tensor in host memory."""
    return torch.from_numpy(_stats.pack(moments))


def unpack(tensor: torch.Tensor, dim: int, *, precision: str, extractor: str | None) -> Moments:
    """Inverse of `pack`; raises a ValueError if the tensor does not fit."""
    return _stats.unpack(_values(tensor), dim, precision=precision, extractor=extractor)


def pack_blocks(moments: Moments) -> torch.Tensor:
    """`_stats.packing.pack_blocks` as a tensor in host memory."""
    return torch.from_numpy(_stats.pack_blocks(moments))


def unpack_blocks(tensor: torch.Tensor, dim: int, blocks: int, *, extractor: str | None) -> Moments:
    """Inverse of `pack_blocks`; raises a ValueError if the tensor does not fit."""
    return _stats.unpack_blocks(_values(tensor), dim, blocks, extractor=extractor)


def _values(tensor: torch.Tensor) -> Any:
    if tensor.numel() == 0:  # also on the meta device, in a caller's torch.device context
        return np.empty(0)
    return tensor.detach().cpu().double().reshape(-1).numpy()


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
