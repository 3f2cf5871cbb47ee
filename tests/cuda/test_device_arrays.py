"""`DeviceArray` and its DLPack export."""

import gc

import device_arrays
import ml_dtypes
import numpy as np
import pytest
from device_arrays import DeviceArray

LAYOUTS = [
    {},
    {"layout": "F"},
    {"row_padding": 3},
    {"layout": "F", "row_padding": 2},
    {"column_step": 2},
    {"column_step": 3, "row_padding": 1},
]


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int32])
def test_values_and_views(cuda, options, dtype):
    values = np.arange(20).reshape(5, 4).astype(dtype)
    array = DeviceArray(values, **options)
    assert (array.to_numpy() == values).all()
    assert (array[1:4].to_numpy() == values[1:4]).all()
    assert (array[::2].to_numpy() == values[::2]).all()
    assert (array.T.to_numpy() == values.T).all()
    assert len(array[2:]) == 3


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
def test_a_copy_on_the_host(cuda, options):
    """NumPy consumes the capsule."""
    values = np.arange(12.0).reshape(4, 3)
    array = DeviceArray(values, **options)
    copied = np.from_dlpack(array[1:], device="cpu")
    assert (copied == values[1:]).all()
    assert device_arrays.exported_tensors() == 1
    del copied
    assert device_arrays.exported_tensors() == 0


class Exported:
    """The tensor in a capsule."""

    def __init__(self, capsule, versioned):
        name = b"dltensor_versioned" if versioned else b"dltensor"
        kind = device_arrays._ManagedVersioned if versioned else device_arrays._Managed
        self.managed = kind.from_address(device_arrays._capsule_pointer(id(capsule), name))
        self.tensor = self.managed.tensor


@pytest.mark.parametrize("versioned", [False, True])
def test_capsules(cuda, versioned):
    array = DeviceArray(np.zeros((4, 3), np.float32), row_padding=2, device=1)
    capsule = array[1:].__dlpack__(stream=1, max_version=(1, 0) if versioned else None)
    tensor = Exported(capsule, versioned).tensor
    assert array.__dlpack_device__() == (2, 1) == (tensor.device.type, tensor.device.id)
    assert tensor.data + tensor.byte_offset == array.address + array.strides[0]
    assert (list(tensor.shape[:2]), list(tensor.strides[:2])) == ([3, 3], [5, 1])
    assert (tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes) == (2, 32, 1)
    address = array.address
    del array
    gc.collect()
    cuda.synchronize(device=1)
    assert cuda.is_written(address, 4)  # the capsule keeps the memory
    del capsule
    cuda.synchronize(device=1)
    assert not cuda.is_written(address, 4)


def test_the_stream_of_a_consumer_waits_for_the_array(cuda):
    producer, consumer = cuda.new_stream(), cuda.new_stream()
    array = DeviceArray(np.ones((2, 2)), stream=producer)
    assert np.isnan(array.to_numpy()).all()
    array.__dlpack__(stream=-1)
    cuda.synchronize(consumer)
    assert np.isnan(array.to_numpy()).all()  # -1 waits for nothing
    array.__dlpack__(stream=consumer)
    cuda.synchronize(consumer)
    assert (array.to_numpy() == 1).all()
    assert array.requested_streams == [-1, consumer]
    for stream in (producer, consumer):
        cuda.destroy_stream(stream)


def test_no_stream_means_the_legacy_default_stream(cuda):
    producer = cuda.new_stream()
    array = DeviceArray(np.ones((2, 2)), stream=producer)
    array.__dlpack__()
    cuda.synchronize(1)
    assert (array.to_numpy() == 1).all()
    cuda.destroy_stream(producer)
    with pytest.raises(ValueError, match="ambiguous"):
        array.__dlpack__(stream=0)


def test_unsupported_exports(cuda):
    array = DeviceArray(np.ones((2, 2)))
    with pytest.raises(BufferError):
        array.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError):
        array.__dlpack__(dl_device=(2, 1))
    with pytest.raises(TypeError):
        DeviceArray(np.ones(2, np.int64))


def test_a_copy_on_the_device(cuda):
    array = DeviceArray(np.ones((2, 2)))
    capsule = array.__dlpack__(copy=True, max_version=(1, 0))
    managed = Exported(capsule, versioned=True).managed
    assert managed.tensor.data != array.address
    assert managed.flags == 2
