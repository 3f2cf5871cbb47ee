"""The GPU that the tests use: a real one through torch, or with ``--standin`` the stand-in of tests/cuda.

Both classes have the same interface for arrays, streams and long-running work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ctypes import byref, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
from devices import RealDevice, StandinDevice

__all__ = ["StandinGpu", "TorchGpu"]


class TorchGpu(RealDevice):
    """A real GPU, with streams and memory of torch."""

    #: Dimensions of features. 2048 is that of Inception features.
    dims = (64, 512, 2048)

    @property
    def number(self) -> int:
        return int(self.name[5:])

    def array(self, values: np.ndarray, layout: str = "rows") -> Any:
        import torch

        with torch.cuda.device(self.name):
            return super().array(values, layout)

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        """Makes a new stream current. fidfast gets it from torch."""
        import torch

        with torch.cuda.stream(torch.cuda.Stream(self.name)):
            yield

    @property
    def update_options(self) -> dict[str, Any]:
        """Arguments of an update within `side_stream`."""
        return {}

    def keep_busy(self, seconds: float):
        """Queue work in the current stream that takes at least this long. Returns a function that tests its end."""
        import torch

        # In cycles: no GPU has a clock above 2.5 GHz.
        torch.cuda._sleep(int(seconds * 2.5e9))
        event = torch.cuda.Event()
        event.record()
        return event.query

    def overwrite(self, array: Any, values: np.ndarray) -> None:
        """Copy `values` into the array in the current stream, without waiting."""
        import torch

        array.copy_(torch.from_numpy(values).pin_memory(), non_blocking=True)

    def free_bytes(self) -> int:
        import torch

        torch.cuda.synchronize(self.name)
        return torch.cuda.mem_get_info(self.name)[0]

    def total_bytes(self) -> int:
        import torch

        return torch.cuda.get_device_properties(self.name).total_memory

    def current_device(self) -> int:
        import torch

        return torch.cuda.current_device()

    def others(self) -> list[TorchGpu]:
        """All other GPUs."""
        import torch

        return [TorchGpu(f"cuda:{number}") for number in range(torch.cuda.device_count()) if number != self.number]


@dataclass(frozen=True)
class StandinGpu(StandinDevice):
    """A device of the stand-in, to test these tests without a GPU."""

    cuda: Any = None

    dims = (6, 9)

    @property
    def number(self) -> int:
        return int(self.name[5:])

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[None]:
        stream = self.cuda.new_stream(self.number)
        self._streams.append(stream)
        try:
            yield
        finally:
            self.cuda.synchronize(stream)
            self._streams.pop()
            self.cuda.destroy_stream(stream)

    #: The last stream is the current one.
    _streams = []

    @property
    def update_options(self) -> dict[str, Any]:
        return {"stream": self._streams[-1]}

    def array(self, values: np.ndarray, layout: str = "rows") -> Any:
        from device_arrays import DeviceArray

        if self._streams:
            return DeviceArray(values, device=self.number, stream=self._streams[-1])
        return super().array(values, layout)

    def keep_busy(self, seconds: float):
        memory = c_void_p(self.cuda.allocate(8, self.number))
        stream = self._streams[-1]
        with self.cuda.on_device(self.number):
            self.cuda.call("cudaMemsetAsync", memory, 0, c_size_t(8), c_void_p(stream))
        self.cuda.give_up(memory.value, self.number, stream)
        return lambda: not self.cuda.is_pending(stream)

    def overwrite(self, array: Any, values: np.ndarray) -> None:
        array._fill(values)

    def free_bytes(self) -> int:
        self.cuda.synchronize(device=self.number)
        free, total = c_size_t(), c_size_t()
        with self.cuda.on_device(self.number):
            self.cuda.call("cudaMemGetInfo", byref(free), byref(total))
        return free.value

    def total_bytes(self) -> int:
        return 1 << 30

    def current_device(self) -> int:
        return self.cuda.current_device

    def others(self) -> list[StandinGpu]:
        return [StandinGpu(f"cuda:{1 - self.number}", self.cuda)]
