"""A strict stand-in for CUDA on the CPU: libcudart, libcuBLAS and libcuSOLVER for an extension that nvcc has built.

The extension runs as it ships. Its host code calls the libraries of `tests/cuda/standin/`, which are built here and
loaded before it, under the names that it asks for; its kernels are run by interpreting the PTX inside of it. What the
host code gets wrong comes out: device memory is out of the host's reach, nothing that is asynchronous happens before
a call waits for it, and every pointer, size, handle and stream is checked. ::

    import standin

    cuda = standin.load()                                # before anything loads the real libcudart
    cuda.load_kernels(path_of_the_extension)             # its PTX, for the interpreter
    extension = standin.import_extension("fidfast._cuda", path_of_the_extension)

    cuda.reset()                                         # no device is lost, nothing logged, nothing queued
    with cuda.failing(3):                                # the third call from here fails
        ...
    assert cuda.calls() == [...]                         # what was called, in which stream
    assert cuda.reasons() == []                          # what broke the rules
    assert cuda.live() == live_before                    # what leaks

A process that has imported a CUDA build of torch has the real libraries and cannot have these.
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

#: Objects whose number `Standin.live` tells.
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
    """A call of the extension: its function, or a kernel's mangled name for a launch."""

    name: str
    device: int  # the current one
    stream: int  # 0 where the function has none


class CudaError(RuntimeError):
    """A call of the tests' own has failed; the extension's errors come out of the extension."""


class Standin:
    """The libraries as loaded into this process; `load` gives the only one."""

    def __init__(self, folder: Path):
        # In this order: the latter two need the first. Global, so that the extension finds their symbols.
        self._libraries = [ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL) for name in standin_build.SONAMES]
        self._library = self._libraries[0]
        self._kernels: dict[str, Kernel] = {}
        self._making_streams: dict[int, int] = {}
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
        """Makes the kernels known whose PTX lies in the extension, which must be done before they are launched."""
        self._kernels.update(_kernels_of(str(extension)))

    def load_ptx(self, text: str) -> None:
        self._kernels.update(Program(text).kernels)

    def forget_kernels(self) -> None:
        self._kernels.clear()

    def _parameter_sizes(self, name: bytes, sizes, capacity: int) -> int:
        kernel = self._kernels.get(name.decode())
        if kernel is None:
            return -1
        for place, size in enumerate(kernel.parameter_sizes[:capacity]):
            sizes[place] = size
        return len(kernel.parameter_sizes)

    def _run_kernel(self, name: bytes, dimensions, shared_bytes: int, arguments, message, message_bytes: int) -> int:
        # An object that is found to be garbage in the middle of a kernel would free its memory, and so run what waits.
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
        # Whatever goes wrong must not be lost in C++: it comes out as the reason for the failed launch.
        except BaseException as error:
            text = f"{type(error).__name__}: {error}".replace("\n", "; ").encode()[: message_bytes - 1]
            ctypes.memmove(message, text + b"\0", len(text) + 1)
            return 1
        finally:
            if collects:
                gc.enable()
        return 0

    # The world

    def reset(self) -> None:
        """Drops what is queued, logged and remembered, and plays the usual world: two devices, a fitting driver.

        Objects that are alive stay alive: their owners still hold them.
        """
        self._library.standin_reset()
        self.set_device_count(2)
        for device in range(2):
            self.set_device(device)
        self.current_device = 0

    def set_device_count(self, count: int) -> None:
        """With 0, as on a machine with a driver and no device."""
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
        """What the device tells of itself; more than `capacity` bytes cannot be allocated on it."""
        major, minor = compute_capability
        self._library.standin_set_device(
            device, c_size_t(capacity), major, minor, multiprocessors, single_to_double_ratio
        )

    def set_driver(self, state: str) -> None:
        """`present`, `none`, `old` (12.4), or `no device`."""
        error, version = {
            "present": (0, -1),
            "none": (_INSUFFICIENT_DRIVER, 0),
            "old": (_INSUFFICIENT_DRIVER, 12040),
            "no device": (_NO_DEVICE, -1),
        }[state]
        self._library.standin_set_driver(error, version)

    def set_solver_info(self, info: int) -> None:
        """The next factorisation that runs fails with this `info`."""
        self._library.standin_set_solver_info(info)

    @property
    def current_device(self) -> int:
        """Of this thread."""
        device = c_int()
        self.call("cudaGetDevice", ctypes.byref(device))
        return device.value

    @current_device.setter
    def current_device(self, device: int) -> None:
        self.call("cudaSetDevice", c_int(device))

    # What happened

    def calls(self) -> list[Call]:
        """The extension's calls since `reset` or `clear_calls`, in order; those of this class are left out."""
        lines = self._library.standin_calls().decode().splitlines()
        return [Call(name, int(device), int(stream)) for name, device, stream in (line.split(" ") for line in lines)]

    def clear_calls(self) -> None:
        self._library.standin_clear_calls()

    def reasons(self) -> list[str]:
        """Every breach of the rules since `reset`: in calls, which return an error, and in work that ran."""
        return self._library.standin_reasons().decode().splitlines()

    def live(self) -> dict[str, int]:
        """How many objects of each of `KINDS` are alive."""
        return {kind: self._library.standin_live(kind.encode()) for kind in KINDS}

    def pending(self) -> int:
        """How many pieces of work wait in all streams."""
        return self._library.standin_pending()

    def is_pending(self, stream: int) -> bool:
        """Whether work waits in this stream itself."""
        state = self._library.standin_is_pending(c_size_t(stream))
        if state < 0:
            raise ValueError(f"no stream {stream:#x}")
        return state == 1

    # Failures

    def fail_call(self, count: int, status: int | None = None) -> None:
        """The `count`-th call from now returns `status` and does nothing; 1 is the next one, 0 takes it back.

        Without a status: out of memory for what allocates, unknown for the rest of the runtime, an internal error in
        the libraries. What destroys and frees returns the status and does its work; what waits loses what is queued.
        """
        self._library.standin_fail_call(c_long(count), -1 if status is None else status)

    def failure_is_waiting(self) -> bool:
        """Whether the call that shall fail has not come yet."""
        return bool(self._library.standin_failure_is_waiting())

    @contextlib.contextmanager
    def failing(self, count: int, status: int | None = None):
        """`fail_call` for a block. Yields a function that tells whether the failure has happened."""
        self.fail_call(count, status)
        try:
            yield lambda: not self.failure_is_waiting()
        finally:
            self.fail_call(0)

    # The tests' own calls

    @contextlib.contextmanager
    def unrecorded(self):
        """Calls of this thread within are neither logged nor counted, and never made to fail."""
        self._library.standin_leave_out_calls(1)
        try:
            yield
        finally:
            self._library.standin_leave_out_calls(-1)

    def status_of(self, name: str, *arguments) -> int:
        """The status that a function of any of the three libraries returns; unrecorded."""
        library = next(library for library in self._libraries if hasattr(library, name))
        with self.unrecorded():
            return getattr(library, name)(*arguments)

    def call(self, name: str, *arguments) -> None:
        """Calls a function of any of the three libraries, unrecorded; a failure is a `CudaError` with the reason."""
        status = self.status_of(name, *arguments)
        if status != 0:
            error = self._library.cudaGetErrorName(status).decode() if name.startswith("cuda") else f"status {status}"
            raise CudaError(f"{name}: {error}; {' '.join(self.reasons()[-1:])}")

    def new_stream(self, device: int = 0, *, blocking: bool = False) -> int:
        """Blocking: with respect to the legacy default stream."""
        return self._created("cudaStreamCreateWithFlags", device, c_uint(0 if blocking else _NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        self.call("cudaStreamDestroy", c_void_p(stream))

    def synchronize(self, stream: int | None = None, device: int = 0) -> None:
        """Runs what waits in one stream, or on one device."""
        if stream is None:
            with self.on_device(device):
                self.call("cudaDeviceSynchronize")
        else:
            self.call("cudaStreamSynchronize", c_void_p(stream))

    def wait_for(self, waiting: int, stream: int, device: int = 0) -> None:
        """Makes the work that `waiting` gets from now on wait for what `stream` has now; both are the device's."""
        event = self._created("cudaEventCreate", device)
        with self.on_device(device):
            self.call("cudaEventRecord", c_void_p(event), c_void_p(stream))
            self.call("cudaStreamWaitEvent", c_void_p(waiting), c_void_p(event), c_uint(0))
        self.call("cudaEventDestroy", c_void_p(event))

    def allocate(self, size: int, device: int = 0) -> int:
        """The address of `size` bytes on the device, never written."""
        return self._created("cudaMalloc", device, c_size_t(size))

    def free(self, address: int) -> None:
        """Runs what waits on its device first, as cudaFree does."""
        self.call("cudaFree", c_void_p(address))

    def give_up(self, address: int, device: int, stream: int) -> None:
        """Frees memory in the order of a stream, without waiting: work of other streams that needs it still fails."""
        if not self._library.standin_give_up(c_void_p(address), device, c_size_t(stream)):
            raise CudaError(self.reasons()[-1])

    def making_stream(self, device: int) -> int:
        """A stream for the tests' own work, which nothing of the extension's waits for."""
        if device not in self._making_streams:
            self._making_streams[device] = self.new_stream(device)
        return self._making_streams[device]

    def write(self, address: int, data: bytes) -> None:
        """Writes device memory at once, whatever is queued."""
        if not self._library.standin_write(c_void_p(address), data, c_size_t(len(data))):
            raise CudaError(self.reasons()[-1])

    def read(self, address: int, size: int) -> bytes:
        """Device memory as it is now, whatever is queued; 0xff where it was never written."""
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
    """What a kernel that runs finds at an address; the memory is open to it until it ends."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def find(self, address: int):
        base, size, written = c_size_t(), c_size_t(), c_size_t()
        places = (ctypes.byref(place) for place in (base, size, written))
        outcome = self._library.standin_find(c_void_p(address), *places)
        if outcome == 2:
            raise Fault(f"{address:#x} is memory of another device")
        if outcome == 0:
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
    """Builds the libraries, if these sources were never built here, and loads them into this process.

    Raises
    ------
    UnavailableError
        If this process has the real libraries already, or what is needed to build these is missing.
    """
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    loaded = [name for name in standin_build.SONAMES if name in maps]
    if loaded:
        raise UnavailableError(
            f"this process has loaded {', '.join(loaded)} (by importing torch?), so nothing can replace it"
        )
    return Standin(standin_build.build())


def import_extension(name: str, path: str | Path):
    """The extension module at `path`, imported under `name`."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
