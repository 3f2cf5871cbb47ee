"""Devices that the tests run on: the host, a device of the stand-in, and a real GPU by way of torch.

Each has a name, as in `Moments.device`, and makes arrays on the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

#: Memory layouts of features.
LAYOUTS = ("rows", "padded", "transposed", "steps")


def _view(values: np.ndarray, layout: str, empty) -> Any:
    """A view of the shape of `values` into memory that `empty(shape, dtype)` allocates."""
    n, dim = values.shape
    if layout == "transposed":
        view = empty((dim, n), values.dtype).T
    elif layout == "padded":
        view = empty((n, dim + 3), values.dtype)[:, :dim]
    elif layout == "steps":
        view = empty((n, 2 * dim), values.dtype)[:, ::2]
    else:
        view = empty((n, dim), values.dtype)
    return view


@dataclass(frozen=True)
class Host:
    name: str = "cpu"

    def array(self, values: np.ndarray, layout: str = "rows") -> Any:
        view = _view(values, layout, lambda shape, dtype: np.full(shape, np.nan, dtype))
        view[...] = values
        return view


@dataclass(frozen=True)
class StandinDevice:
    name: str = "cuda:0"

    def array(self, values: np.ndarray, layout: str = "rows") -> Any:
        from device_arrays import DeviceArray

        options: dict[str, dict[str, Any]] = {
            "transposed": {"layout": "F"},
            "padded": {"row_padding": 3},
            "steps": {"column_step": 2},
        }
        return DeviceArray(values, device=int(self.name[5:]), **options.get(layout, {}))


@dataclass(frozen=True)
class RealDevice:
    name: str = "cuda:0"

    def array(self, values: np.ndarray, layout: str = "rows") -> Any:
        import torch

        is_bfloat16 = values.dtype == ml_dtypes.bfloat16  # torch does not know the dtype of ml_dtypes
        tensor = torch.from_numpy(np.ascontiguousarray(values.view(np.int16) if is_bfloat16 else values))
        tensor = tensor.view(torch.bfloat16) if is_bfloat16 else tensor
        view = _view(values, layout, lambda shape, _: torch.full(shape, float("nan"), dtype=tensor.dtype).cuda())
        view.copy_(tensor)
        return view
