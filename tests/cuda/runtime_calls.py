"""Calls of the CUDA runtime for tests. Each returns its status."""

from ctypes import c_size_t, c_void_p

import numpy as np
from device_arrays import DeviceArray

INVALID_VALUE, OUT_OF_MEMORY, INVALID_HANDLE = 1, 2, 400
NOT_READY, LAUNCH_FAILURE, UNKNOWN = 600, 719, 999
TO_DEVICE, TO_HOST, ON_DEVICE = 1, 2, 3


def copy(cuda, to, source, size, kind, stream):
    return cuda.status_of("cudaMemcpyAsync", c_void_p(to), c_void_p(source), c_size_t(size), kind, c_void_p(stream))


def fill(cuda, array, value, stream):
    size = c_size_t(array.dtype.itemsize * int(np.prod(array.shape)))
    return cuda.status_of("cudaMemsetAsync", c_void_p(array.address), value, size, c_void_p(stream))


def synchronize(cuda, stream):
    return cuda.status_of("cudaStreamSynchronize", c_void_p(stream))


def scratch(**options):
    return DeviceArray((4,), np.int32, **options)


#: Functions that an update may call besides kernels. None of them allocates, frees or waits.
QUIET = {
    "cudaGetDeviceCount",
    "cudaGetDevice",
    "cudaSetDevice",
    "cudaMemcpyAsync",
    "cudaEventRecord",
    "cudaStreamWaitEvent",
    "cublasDsyrk_v2",
}


def assert_quiet(calls):
    assert {call.name for call in calls if not call.name.startswith("_Z")} <= QUIET
