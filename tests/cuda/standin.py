"""A strict stand-in for CUDA on the CPU: libcudart, libcublas and libcusolver for an extension compiled by nvcc.

The extension runs unmodified. Its host code calls the libraries of `tests/cuda/standin/`, which are built and loaded
before it under the names that it requests. Its kernels run in an interpreter of their PTX. The stand-in detects errors
of the host code: the host cannot access device memory, asynchronous work does not run before a call waits for it, and
every pointer, size, handle and stream is checked. ::

    import standin

    cuda = standin.load()                                # before anything loads the real libcudart
    cuda.load_kernels(path_of_the_extension)             # PTX for the interpreter
    extension = standin.import_extension("fidfast._cuda", path_of_the_extension)

    cuda.reset()                                         # restores devices; clears logs and queues
    with cuda.failing(3):                                # the third call from now fails
        ...
    assert cuda.calls() == [...]                         # calls with their streams
    assert cuda.reasons() == []                          # violations of the rules
    assert cuda.live() == live_before                    # leaks

A process that has imported a CUDA build of torch has loaded the real libraries and cannot use the stand-in.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib.util
import sys
from ctypes import POINTER, c_char, c_char_p, c_int, c_long, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from pathlib import Path
from typing import NamedTuple

import numpy as np
import standin_build
from ptx import machine
from ptx.memory import Allocation
from ptx.program import Fault, Kernel, Program
from standin_build import UnavailableError

#: Kinds of objects that `Standin.live` counts.
KINDS = (
    "allocation",
    "pinned allocation",
    "stream",
    "event",
    "cublas handle",
    "cusolver handle",
    "cusolver params",
)

_NON_BLOCKING = 1
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100

_PARAMETER_SIZES = ctypes.CFUNCTYPE(c_int, c_char_p, POINTER(c_uint64), c_int)
_RUN_KERNEL = ctypes.CFUNCTYPE(c_int, c_char_p, POINTER(c_uint), c_uint64, POINTER(c_ubyte), POINTER(c_char), c_uint64)


class Call(NamedTuple):
    """A call of the extension: the name of the function, or the mangled name of a launched kernel."""

    name: str
    device: int  # the current device
    stream: int  # 0 if the function has no stream


class CudaError(RuntimeError):
    """A call made by a test has failed. Errors of the extension are raised by the extension."""


class Standin:
    """The libraries loaded into this process. `load` returns the only instance."""

    def __init__(self, folder: Path):
        # The last two need the first. RTLD_GLOBAL, so that the extension finds their symbols.
        self._libraries = [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in standin_build.SONAMES]
        self._library = self._libraries[0]
        self._kernels: dict[str, Kernel] = {}
        self._stream_for_testss: dict[int, int] = {}
        for name in ("standin_calls", "standin_reasons", "cudaGetErrorName"):
            getattr(self._library, name).restype = c_char_p
        for name in ("standin_live", "standin_pending"):
            getattr(self._library, name).restype = c_long
        python = ctypes.pythonapi
        lock = python.PyGILState_Check, python.PyEval_SaveThread, python.PyEval_RestoreThread
        self._library.standin_set_python_lock(*(ctypes.cast(function, c_void_p) for function in lock))
        # Kept here: C++ holds no reference to them.
        self._callbacks = _PARAMETER_SIZES(self._parameter_sizes), _RUN_KERNEL(self._run_kernel)
        self._library.standin_set_launcher(*self._callbacks)
        self.reset()

    # Kernels

    def load_kernels(self, extension: str | Path) -> None:
        """Load the PTX of the extension's kernels, which is required before they are launched."""
        self._kernels.update(_kernels_of(str(extension)))

    def load_ptx(self, text: str) -> None:
        self._kernels.update(Program(text).kernels)

    def forget_kernels(self) -> None:
        self._kernels.clear()

    def _parameter_sizes(self, name: bytes, sizes, capacity: int) -> int:
        kernel = self._kernels.get(name.decode())
        if kernel is None:
            return -1
        for index, size in enumerate(kernel.parameter_sizes[:capacity]):
            sizes[index] = size
        return len(kernel.parameter_sizes)

    def _run_kernel(self, name: bytes, dimensions, shared_bytes: int, arguments, message, message_bytes: int) -> int:
        # Collected objects would free device memory in the middle of a kernel, and so run queued work.
        collects = gc.isenabled()
        gc.disable()
        try:
            kernel = self._kernels[name.decode()]
            ends = np.cumsum(kernel.parameter_sizes, dtype=int)
            values = [
                bytes(arguments[end - size : end]) for end, size in zip(ends, kernel.parameter_sizes, strict=True)
            ]
            grid, block = tuple(dimensions[:3]), tuple(dimensions[3:6])
            memory = _KernelMemory(self._library)
            machine.launch(kernel, memory, grid, block, values, dynamic_shared_bytes=shared_bytes)
        # Exceptions cannot pass through C++: the message becomes the reason of the failed launch.
        except BaseException as error:
            text = f"{type(error).__name__}: {error}".replace("\n", "; ").encode()[: message_bytes - 1]
            ctypes.memmove(message, text + b"\0", len(text) + 1)
            return 1
        finally:
            if collects:
                gc.enable()
        return 0

    # Devices

    def reset(self) -> None:
        """Drop queued work, logs and errors, and restore the defaults: two devices and a matching driver.

        Live objects stay alive.
        """
        self._library.standin_reset()
        self.set_device_count(2)
        for device in range(2):
            self.set_device(device)
        self.current_device = 0

    def set_device_count(self, count: int) -> None:
        """Set the number of devices. With 0 there is still a driver."""
        self._library.standin_set_device_count(count)

    def set_device(
        self,
        device: int,
        *,
        capacity: int = 1 << 30,
        compute_capability: tuple[int, int] = (8, 0),
        multiprocessors: int = 4,
        single_to_double_ratio: int = 2,
    ) -> None:
        """Set properties of a device. At most `capacity` bytes can be allocated on it."""
        major, minor = compute_capability
        self._library.standin_set_device(
            device, c_size_t(capacity), major, minor, multiprocessors, single_to_double_ratio
        )

    def set_driver(self, state: str) -> None:
        """Set the driver to `present`, `none`, `old` (12.4), or `no device`."""
        error, version = {
            "present": (0, -1),
            "none": (_INSUFFICIENT_DRIVER, 0),
            "old": (_INSUFFICIENT_DRIVER, 12040),
            "no device": (_NO_DEVICE, -1),
        }[state]
        self._library.standin_set_driver(error, version)

    def set_solver_info(self, info: int) -> None:
        """Make the next factorisation that runs fail with this `info`."""
        self._library.standin_set_solver_info(info)

    @property
    def current_device(self) -> int:
        """The current device of this thread."""
        device = c_int()
        self.call("cudaGetDevice", ctypes.byref(device))
        return device.value

    @current_device.setter
    def current_device(self, device: int) -> None:
        self.call("cudaSetDevice", c_int(device))

    # Logs

    def calls(self) -> list[Call]:
        """The extension's calls since `reset` or `clear_calls`, in order, without calls made by this class."""
        lines = self._library.standin_calls().decode().splitlines()
        return [Call(name, int(device), int(stream)) for name, device, stream in (line.split(" ") for line in lines)]

    def clear_calls(self) -> None:
        self._library.standin_clear_calls()

    def reasons(self) -> list[str]:
        """All violations of the rules since `reset`: by calls, which return an error, and by queued work."""
        return self._library.standin_reasons().decode().splitlines()

    def live(self) -> dict[str, int]:
        """The number of live objects of each of `KINDS`."""
        return {kind: self._library.standin_live(kind.encode()) for kind in KINDS}

    def pending(self) -> int:
        """The number of queued operations in all streams."""
        return self._library.standin_pending()

    def is_pending(self, stream: int) -> bool:
        """Whether operations are queued in this stream."""
        state = self._library.standin_is_pending(c_size_t(stream))
        if state < 0:
            raise ValueError(f"no stream {stream:#x}")
        return state == 1

    # Failures

    def fail_call(self, count: int, status: int | None = None) -> None:
        """Make the `count`-th call from now return `status` and do nothing. 1 is the next call, 0 cancels the failure.

        The default status is "out of memory" for allocations, "unknown" for other functions of the runtime, and an
        internal error for the libraries. Calls that free or destroy an object still do so. Calls that wait drop the
        queued work.
        """
        self._library.standin_fail_call(c_long(count), -1 if status is None else status)

    def failure_is_waiting(self) -> bool:
        """Whether the call that must fail was not reached yet."""
        return bool(self._library.standin_failure_is_waiting())

    @contextlib.contextmanager
    def failing(self, count: int, status: int | None = None):
        """`fail_call` within a block. Yields a function that returns whether the failure has happened."""
        self.fail_call(count, status)
        try:
            yield lambda: not self.failure_is_waiting()
        finally:
            self.fail_call(0)

    # Calls made by tests

    @contextlib.contextmanager
    def unrecorded(self):
        """Calls of this thread within the block are not logged, not counted, and do not fail."""
        self._library.standin_leave_out_calls(1)
        try:
            yield
        finally:
            self._library.standin_leave_out_calls(-1)

    def status_of(self, name: str, *arguments) -> int:
        """Call a function of any of the three libraries, unrecorded, and return its status."""
        library = next(library for library in self._libraries if hasattr(library, name))
        with self.unrecorded():
            return getattr(library, name)(*arguments)

    def call(self, name: str, *arguments) -> None:
        """Call a function of any of the three libraries, unrecorded. Raises `CudaError` if it fails."""
        status = self.status_of(name, *arguments)
        if status != 0:
            error = self._library.cudaGetErrorName(status).decode() if name.startswith("cuda") else f"status {status}"
            raise CudaError(f"{name}: {error}; {' '.join(self.reasons()[-1:])}")

    def new_stream(self, device: int = 0, *, blocking: bool = False) -> int:
        """Create a stream. A blocking stream synchronises with the legacy default stream."""
        return self._created("cudaStreamCreateWithFlags", device, c_uint(0 if blocking else _NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        self.call("cudaStreamDestroy", c_void_p(stream))

    def synchronize(self, stream: int | None = None, device: int = 0) -> None:
        """Run the queued work of one stream, or of one device."""
        if stream is None:
            with self.on_device(device):
                self.call("cudaDeviceSynchronize")
        else:
            self.call("cudaStreamSynchronize", c_void_p(stream))

    def wait_for(self, waiting: int, stream: int, device: int = 0) -> None:
        """Make future work in the stream `waiting` wait for the current work in `stream`."""
        event = self._created("cudaEventCreate", device)
        with self.on_device(device):
            self.call("cudaEventRecord", c_void_p(event), c_void_p(stream))
            self.call("cudaStreamWaitEvent", c_void_p(waiting), c_void_p(event), c_uint(0))
        self.call("cudaEventDestroy", c_void_p(event))

    def allocate(self, size: int, device: int = 0) -> int:
        """Allocate `size` uninitialised bytes on the device and return their address."""
        return self._created("cudaMalloc", device, c_size_t(size))

    def free(self, address: int) -> None:
        """Free memory after the queued work of its device, as cudaFree does."""
        self.call("cudaFree", c_void_p(address))

    def give_up(self, address: int, device: int, stream: int) -> None:
        """Free memory in the order of a stream, without waiting. Later work in other streams that uses it fails."""
        if not self._library.standin_give_up(c_void_p(address), device, c_size_t(stream)):
            raise CudaError(self.reasons()[-1])

    def stream_for_tests(self, device: int) -> int:
        """A stream for work of the tests that the extension does not wait for."""
        if device not in self._stream_for_testss:
            self._stream_for_testss[device] = self.new_stream(device)
        return self._stream_for_testss[device]

    def write(self, address: int, data: bytes) -> None:
        """Write device memory immediately, before queued work."""
        if not self._library.standin_write(c_void_p(address), data, c_size_t(len(data))):
            raise CudaError(self.reasons()[-1])

    def read(self, address: int, size: int) -> bytes:
        """Read device memory immediately, before queued work. Bytes that were never written are 0xff."""
        buffer = ctypes.create_string_buffer(size)
        if not self._library.standin_read(c_void_p(address), buffer, c_size_t(size)):
            raise CudaError(self.reasons()[-1])
        return buffer.raw

    def is_written(self, address: int, size: int) -> bool:
        return bool(self._library.standin_is_written(c_void_p(address), c_size_t(size)))

    @contextlib.contextmanager
    def on_device(self, device: int):
        before = self.current_device
        self.current_device = device
        try:
            yield
        finally:
            self.current_device = before

    def _created(self, name: str, device: int, *arguments) -> int:
        handle = c_void_p()
        with self.on_device(device):
            self.call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0


class _KernelMemory:
    """Memory of a running kernel. Allocations that it uses stay accessible to the host until it ends."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def find(self, address: int):
        base, size, written = c_size_t(), c_size_t(), c_size_t()
        pointers = (ctypes.byref(value) for value in (base, size, written))
        status = self._library.standin_find(c_void_p(address), *pointers)
        if status == 2:
            raise Fault(f"{address:#x} is memory of another device")
        if status == 0:
            return None
        array = c_ubyte * size.value
        return Allocation(
            base.value,
            np.ctypeslib.as_array(array.from_address(base.value)),
            np.ctypeslib.as_array(array.from_address(written.value)).view(bool),
        )


@functools.cache
def _kernels_of(extension: str) -> dict[str, Kernel]:
    return dict(Program(standin_build.ptx_of(extension)).kernels)


@functools.cache
def load() -> Standin:
    """Build the libraries unless a build of the same sources exists, and load them into this process.

    Raises
    ------
    UnavailableError
        If this process has loaded the real libraries, or if a tool for the build is missing.
    """
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    loaded = [name for name in standin_build.SONAMES if name in maps]
    if loaded:
        raise UnavailableError(f"this process has already loaded {', '.join(loaded)}, possibly by importing torch")
    return Standin(standin_build.build())


def import_extension(name: str, path: str | Path):
    """Import the extension module at `path` under `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
