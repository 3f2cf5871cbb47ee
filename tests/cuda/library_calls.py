"""Calls of cuBLAS and cuSOLVER with arguments of the correct C types, for tests of the stand-in."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_byte, c_double, c_float, c_int, c_int64, c_size_t, c_void_p

import numpy as np
from device_arrays import DeviceArray

LOWER, UPPER = 0, 1
NO_TRANSPOSE, TRANSPOSE = 0, 1
LEFT, RIGHT = 0, 1
FLOAT64 = 1  # CUDA_R_64F


def column_major(values: np.ndarray, padding: int = 0, **options) -> DeviceArray:
    """`padding`: leading dimension minus the number of rows."""
    return DeviceArray(values, layout="F", row_padding=padding, **options)


def leading(matrix: DeviceArray) -> int:
    return matrix.strides[1] // matrix.dtype.itemsize


def matrix(array: DeviceArray) -> tuple:
    """Pointer and leading dimension, as cuBLAS takes them."""
    return c_void_p(array.address), c_int(leading(array))


def triangle(values: np.ndarray, uplo: int) -> np.ndarray:
    return np.tril(values) if uplo == LOWER else np.triu(values)


def only_triangle(values: np.ndarray, uplo: int) -> np.ndarray:
    """The triangle, with NaN in the other triangle, which must not be read."""
    return np.where(triangle(np.ones_like(values), uplo) == 1, values, np.nan)


class Libraries:
    """Handles of one device with a common stream. Calls return their status; `finish` runs the queued work."""

    def __init__(self, cuda, device: int = 0):
        self.cuda, self.device = cuda, device
        self.stream = cuda.new_stream(device)
        self.blas, self.solver, self.params = c_void_p(), c_void_p(), c_void_p()
        with cuda.on_device(device):
            cuda.call("cublasCreate_v2", byref(self.blas))
            cuda.call("cublasSetStream_v2", self.blas, c_void_p(self.stream))
            cuda.call("cusolverDnCreate", byref(self.solver))
            cuda.call("cusolverDnSetStream", self.solver, c_void_p(self.stream))
            cuda.call("cusolverDnCreateParams", byref(self.params))

    def finish(self) -> int:
        return self.cuda.status_of("cudaStreamSynchronize", c_void_p(self.stream))

    def close(self) -> None:
        self.cuda.call("cublasDestroy_v2", self.blas)
        self.cuda.call("cusolverDnDestroy", self.solver)
        self.cuda.call("cusolverDnDestroyParams", self.params)
        self.cuda.destroy_stream(self.stream)

    def blas_status(self, name: str, *arguments) -> int:
        """Adds the handle. Floats are passed by pointer, arrays with their leading dimension."""
        number = c_float if name.startswith("cublasS") else c_double
        converted = []
        for argument in arguments:
            if isinstance(argument, DeviceArray):
                converted += matrix(argument)
            elif isinstance(argument, float):
                converted.append(byref(number(argument)))
            else:
                converted.append(c_int(argument) if isinstance(argument, int) else argument)
        return self.cuda.status_of(name, self.blas, *converted)

    def solver_status(self, name: str, head: tuple, tail: tuple, info, shortage: int = 0, workspace=None) -> int:
        """`head` and `tail` are arguments of the routine. The workspace is `shortage` bytes too small."""
        device_bytes, host_bytes = c_size_t(), c_size_t()
        arguments = self.solver, self.params, *head, *tail
        status = self.cuda.status_of(f"{name}_bufferSize", *arguments, byref(device_bytes), byref(host_bytes))
        if status != 0:
            return status
        if workspace is None:
            workspace = DeviceArray((device_bytes.value // 4 + 1,), np.float32, device=self.device, stream=self.stream)
        self.last_workspace = workspace
        on_host = ctypes.create_string_buffer(host_bytes.value)
        buffers = (
            c_void_p(workspace.address),
            c_size_t(device_bytes.value - shortage),
            on_host,
            c_size_t(host_bytes.value),
        )
        return self.cuda.status_of(name, *arguments, *buffers, c_void_p(info.address))

    def potrf(self, uplo: int, a: DeviceArray, info: DeviceArray, **options) -> int:
        head = c_int(uplo), c_int64(a.shape[0])
        tail = c_int(FLOAT64), c_void_p(a.address), c_int64(leading(a)), c_int(FLOAT64)
        return self.solver_status("cusolverDnXpotrf", head, tail, info, **options)

    def syevd(self, job: int, uplo: int, a: DeviceArray, w: DeviceArray, info: DeviceArray, **options) -> int:
        head = c_int(job), c_int(uplo), c_int64(a.shape[0])
        tail = (c_int(FLOAT64), c_void_p(a.address), c_int64(leading(a)), c_int(FLOAT64), c_void_p(w.address),
                c_int(FLOAT64))  # fmt: skip
        return self.solver_status("cusolverDnXsyevd", head, tail, info, **options)

    def gesvd(self, jobs: str, a, s, u, vt, info, **options) -> int:
        """`u` and `vt` may be None if the jobs do not compute them."""
        none = c_void_p(), c_int64(1)
        left, right = (
            (c_void_p(array.address), c_int64(leading(array))) if array is not None else none for array in (u, vt)
        )
        head = c_byte(ord(jobs[0])), c_byte(ord(jobs[1])), c_int64(a.shape[0]), c_int64(a.shape[1])
        kind = c_int(FLOAT64)
        tail = (kind, c_void_p(a.address), c_int64(leading(a)), kind, c_void_p(s.address), kind, *left, kind, *right,
                kind)  # fmt: skip
        return self.solver_status("cusolverDnXgesvd", head, tail, info, **options)
