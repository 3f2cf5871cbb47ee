"""Arrays in device memory of the stand-in that support DLPack, like arrays of torch, CuPy and JAX. ::

    features = DeviceArray(numpy_array)                          # already written
    features = DeviceArray(numpy_array, stream=producer)         # written when `producer` runs
    features = DeviceArray(numpy_array, row_padding=3)           # gaps between rows
    features = DeviceArray(numpy_array, layout="F")              # contiguous columns
    scratch = DeviceArray((5, 3), dtype="float64")               # never written: a kernel that reads it fails

    moments.update(features)                                     # any function that takes __dlpack__
    moments.update(features[2:7])                                # a view of some rows
    features.requested_streams                                   # streams that consumers passed to __dlpack__

The memory is freed after the array, its views and its unconsumed capsules are deleted. An array made in a stream is
written when that stream runs: a consumer must pass its own stream to `__dlpack__`, which then waits for the array's
stream, or it reads uninitialised memory. `to_numpy` reads the memory immediately, before queued work.
"""

from __future__ import annotations

import ctypes
import weakref
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

import ml_dtypes
import numpy as np
import standin

_CPU, _CUDA = 1, 2
_HOST_TO_DEVICE = 1
_SIGNED, _FLOAT, _BFLOAT = 0, 2, 4
_DTYPES = {
    np.dtype(np.float16): (_FLOAT, 16),
    np.dtype(ml_dtypes.bfloat16): (_BFLOAT, 16),
    np.dtype(np.float32): (_FLOAT, 32),
    np.dtype(np.float64): (_FLOAT, 64),
    np.dtype(np.int32): (_SIGNED, 32),
}
_COPIED = 1 << 1  # a flag of DLManagedTensorVersioned


class _Device(ctypes.Structure):
    _fields_ = [("type", c_int32), ("id", c_int32)]


class _DataType(ctypes.Structure):
    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        ("device", _Device),
        ("ndim", c_int32),
        ("dtype", _DataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


_DELETER = ctypes.CFUNCTYPE(None, c_void_p)


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", c_void_p), ("deleter", _DELETER)]


class _ManagedVersioned(ctypes.Structure):
    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", _DELETER),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


_CAPSULE_DESTRUCTOR = ctypes.CFUNCTYPE(None, c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [c_void_p, c_char_p, _CAPSULE_DESTRUCTOR]
# The destructor gets an object with no references left, so these take its address and do not count references.
_capsule_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, c_void_p, c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_capsule_pointer = ctypes.PYFUNCTYPE(c_void_p, c_void_p, c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))

#: Objects that exported tensors need, by the address of the tensor, until the consumer deletes it.
_exported: dict[int, tuple] = {}


@_DELETER
def _delete(address):
    _exported.pop(address, None)


@_CAPSULE_DESTRUCTOR
def _destroy_capsule(capsule):
    for name in (b"dltensor", b"dltensor_versioned"):  # consumers rename the capsules that they own
        if _capsule_is_valid(capsule, name):
            _delete(_capsule_pointer(capsule, name))


def exported_tensors() -> int:
    """Number of capsules and consumed tensors that have not been deleted."""
    return len(_exported)


def _capsule(owner, array, data: int, offset: int, device: tuple[int, int], versioned: bool, copied: bool):
    """A capsule for the memory of `array`, `offset` bytes after `data`, which `owner` keeps alive."""
    size = array.dtype.itemsize
    extents = (c_int64 * len(array.shape))(*array.shape)
    strides = (c_int64 * len(array.shape))(*(stride // size for stride in array.strides))
    code, bits = _DTYPES[array.dtype]
    tensor = _Tensor(data, _Device(*device), len(array.shape), _DataType(code, bits, 1), extents, strides, offset)
    if versioned:
        managed = _ManagedVersioned(1, 0, None, _delete, _COPIED if copied else 0, tensor)
    else:
        if array.strides == np.empty(array.shape, array.dtype).strides:
            tensor.strides = None  # compact arrays have none in the unversioned form
        managed = _Managed(tensor, None, _delete)
    address = ctypes.addressof(managed)
    _exported[address] = managed, extents, strides, owner
    return _new_capsule(address, b"dltensor_versioned" if versioned else b"dltensor", _destroy_capsule)


class DeviceArray:
    """An array on a device of the stand-in.

    Parameters
    ----------
    values : ndarray or tuple of int
        The values, or the shape of an uninitialised array.
    dtype : dtype, optional
        The dtype of an uninitialised array.
    device : int
    stream : int, optional
        The stream that writes the array. None: the array is already written.
    layout : {"C", "F"}
        Order of the elements.
    row_padding : int
        Number of unwritten elements between rows (columns, for "F").
    column_step : int
        Stride within a row (a column, for "F"), in elements.
    """

    def __init__(
        self,
        values,
        dtype=None,
        *,
        device: int = 0,
        stream: int | None = None,
        layout: str = "C",
        row_padding: int = 0,
        column_step: int = 1,
    ):
        array = values if isinstance(values, np.ndarray) else None
        self.shape: tuple[int, ...] = tuple(values) if array is None else array.shape
        self.dtype = np.dtype(np.float64 if dtype is None else dtype) if array is None else array.dtype
        if self.dtype not in _DTYPES:
            raise TypeError(f"unsupported dtype {self.dtype}")
        self.device, self.stream = device, stream
        self.requested_streams: list[int | None] = []
        step = self.dtype.itemsize * column_step
        strides = []
        for extent in self.shape[::-1] if layout == "C" else self.shape:
            strides.append(step)
            step *= extent
            if len(strides) == 1:
                step += self.dtype.itemsize * row_padding
        self.strides = tuple(strides[::-1] if layout == "C" else strides)
        self._memory = _Memory(self._extent(), device, 1 if stream is None else stream)
        self.address = self._memory.address
        if array is not None:
            self._fill(array)

    def _extent(self) -> int:
        """Number of bytes from the first element to the end of the last."""
        if 0 in self.shape:
            return 0
        steps = zip(self.shape, self.strides, strict=True)
        return self.dtype.itemsize + sum((extent - 1) * stride for extent, stride in steps)

    def _fill(self, values: np.ndarray) -> None:
        if 0 in self.shape:
            return
        cuda = standin.load()
        stream = cuda.stream_for_tests(self.device) if self.stream is None else self.stream
        size = self.dtype.itemsize
        fastest = int(np.argmin(self.strides)) if self.shape else 0
        lines = np.moveaxis(values, fastest, -1) if self.shape else values.reshape(1)
        steps = np.delete(self.strides, fastest)
        pitch = self.strides[fastest] if self.shape else size

        def copy(address: int, pitch: int, data: np.ndarray, width: int, height: int) -> None:
            """Copy `height` pieces of `width` bytes to addresses that are `pitch` bytes apart."""
            to, source, count = (
                (c_void_p(address), c_size_t(pitch)),
                (data.tobytes(), c_size_t(width)),
                c_size_t(height),
            )
            cuda.call("cudaMemcpy2DAsync", *to, *source, c_size_t(width), count, _HOST_TO_DEVICE, c_void_p(stream))

        with cuda.on_device(self.device):
            if lines.ndim == 2 and pitch == size and steps[0] >= size * lines.shape[1]:
                copy(self.address, steps[0], lines, size * lines.shape[1], len(lines))
            else:
                for index in np.ndindex(lines.shape[:-1]):
                    offset = int(np.dot(index, steps)) if index else 0
                    copy(self.address + offset, pitch, lines[index], size, lines.shape[-1])
            if self.stream is None:
                cuda.synchronize(stream)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> DeviceArray:
        """A view of some rows."""
        start, stop, step = rows.indices(self.shape[0])
        if step < 1:
            raise ValueError("negative steps are not supported")
        view = object.__new__(DeviceArray)
        view.__dict__.update(self.__dict__)
        view.shape = (len(range(start, stop, step)), *self.shape[1:])
        view.strides = (self.strides[0] * step, *self.strides[1:])
        view.address = self.address + start * self.strides[0] if self.address else 0
        view.requested_streams = []
        return view

    @property
    def T(self) -> DeviceArray:
        """A transposed view."""
        view = object.__new__(DeviceArray)
        view.__dict__.update(self.__dict__)
        view.shape, view.strides = self.shape[::-1], self.strides[::-1]
        view.requested_streams = []
        return view

    def to_numpy(self) -> np.ndarray:
        """A copy of the current memory, with NaN (-1 for integers) for unwritten elements."""
        extent = self._extent()
        if extent == 0:
            return np.empty(self.shape, self.dtype)
        data = standin.load().read(self.address, extent)
        return np.ndarray(self.shape, self.dtype, data, strides=self.strides).copy()

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, self.device

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        versioned = max_version is not None and tuple(max_version) >= (1, 0)
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            return self._host_capsule(tuple(dl_device), stream, versioned, copy)
        self.requested_streams.append(stream)
        if stream == 0:
            raise ValueError("stream 0 is ambiguous: 1 is the legacy default stream, 2 the thread's own")
        consumer = 1 if stream is None else stream  # None means the legacy default stream
        if self.stream is not None and consumer not in (-1, self.stream):
            standin.load().wait_for(consumer, self.stream, self.device)
        if copy:
            return DeviceArray(self._finished(), device=self.device)._device_capsule(versioned, copied=True)
        return self._device_capsule(versioned, copied=False)

    def _device_capsule(self, versioned: bool, copied: bool):
        base = self._memory.address  # of the complete array, so that consumers must add the offset of a view
        offset = self.address - base
        return _capsule(self, self, base, offset, self.__dlpack_device__(), versioned, copied)

    def _host_capsule(self, device: tuple[int, int], stream, versioned: bool, copy):
        if device != (_CPU, 0) or copy is False:
            raise BufferError(f"cannot export an array of device {self.__dlpack_device__()} to {device} without a copy")
        if stream is not None:
            raise ValueError("stream must be None for an export to the host")
        values = np.ascontiguousarray(self._finished())
        return _capsule(values, values, values.ctypes.data, 0, device, versioned, copied=True)

    def _finished(self) -> np.ndarray:
        if self.stream is not None:
            with standin.load().on_device(self.device):
                standin.load().synchronize(self.stream)
        return self.to_numpy()


class _Memory:
    """Device memory, freed in the order of the array's stream when no array uses it, as torch's allocator does."""

    def __init__(self, size: int, device: int, stream: int):
        self.address = standin.load().allocate(size, device) if size else 0
        if size:
            weakref.finalize(self, standin.load().give_up, self.address, device, stream).atexit = False
