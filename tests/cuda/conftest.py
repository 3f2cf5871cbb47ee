"""The stand-in for CUDA, fresh for each test; these tests need a process without a CUDA build of torch."""

import sys
from ctypes import c_void_p

import pytest
import standin


@pytest.fixture
def cuda():
    """`standin.Standin` as after loading. What a test breaks on purpose it has to expect: `reasons` is not checked."""
    if "torch" in sys.modules:
        pytest.skip("torch is in this process, and may have the real CUDA libraries; run tests/cuda alone")
    try:
        loaded = standin.load()
    except standin.UnavailableError as missing:
        pytest.skip(str(missing))
    loaded.reset()
    before = loaded.live()
    yield loaded
    loaded.reset()
    assert loaded.live() == before, "the test leaks"


@pytest.fixture
def streams(cuda):
    """Makes streams that go when the test ends."""
    made = []

    def new(device=0, **options):
        made.append(cuda.new_stream(device, **options))
        return made[-1]

    yield new
    for stream in made:
        cuda.status_of("cudaStreamDestroy", c_void_p(stream))
