"""Where the laws are stated: the host, a device of the stand-in, and a real GPU by way of torch.

A place has a name, as `Moments.device` tells it, and makes arrays that lie there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

#: How rows may lie in memory.
LAYOUTS = ("rows", "padded", "transposed", "steps")


def _laid_out(values: np.ndarray, layout: str, empty) -> Any:
    """The values in memory that `empty(shape, dtype)` makes; what lies between them is NaN."""
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
        view = _laid_out(values, layout, lambda shape, dtype: np.full(shape, np.nan, dtype))
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

        brain = values.dtype == ml_dtypes.bfloat16  # NumPy's has to be told to torch by its bits
        given = torch.from_numpy(np.ascontiguousarray(values.view(np.int16) if brain else values))
        given = given.view(torch.bfloat16) if brain else given
        view = _laid_out(values, layout, lambda shape, _: torch.full(shape, float("nan"), dtype=given.dtype).cuda())
        view.copy_(given)
        return view
