"""Fixtures: the stand-in for CUDA, reset for each test, and the extension running on it.

These tests need a process without a CUDA build of torch. With ``--real-gpu``, torch is loaded, and tests with the
fixture `device` run on a real GPU.
"""

import functools
import gc
import importlib.util
import sys
from ctypes import c_void_p

import failures
import pytest
import standin
from devices import Host, RealDevice, StandinDevice


def pytest_addoption(parser):
    parser.addoption("--real-gpu", action="store_true", help="run the tests of all devices on a real GPU, with torch")


def pytest_configure(config):
    if config.getoption("--real-gpu"):
        import torch  # noqa: F401  # before anything loads the stand-in


def load_standin():
    """The `standin.Standin` of this process. Skips the test if it is not available."""
    if "torch" in sys.modules:
        pytest.skip("torch is imported and may have loaded the real CUDA libraries: run tests/cuda in its own process")
    try:
        return standin.load()
    except standin.UnavailableError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def cuda():
    """The stand-in after a reset. The test must not leak; rules of CUDA that it breaks are not errors."""
    loaded = load_standin()
    loaded.reset()
    before = loaded.live()
    yield loaded
    if loaded.live() != before:
        gc.collect()  # objects in the traceback of a caught exception
    loaded.reset()
    assert loaded.live() == before, "the test leaks"


@pytest.fixture
def streams(cuda):
    """Creates streams that are destroyed when the test ends."""
    made = []

    def new(device=0, **options):
        made.append(cuda.new_stream(device, **options))
        return made[-1]

    yield new
    for stream in made:
        cuda.status_of("cudaStreamDestroy", c_void_p(stream))


@pytest.fixture(scope="session")
def tested_extension():
    """The extension after the self-test of both devices. Handles that it keeps from then on are not leaks."""
    loaded = load_standin()
    if importlib.util.find_spec("fidfast._cuda") is None:
        pytest.skip("fidfast was built without a CUDA compiler")
    import fidfast.cuda
    from fidfast import _cuda

    loaded.reset()
    try:
        loaded.load_kernels(_cuda.__file__)
    except standin.UnavailableError as missing:
        pytest.skip(str(missing))
    loaded.set_device(1, single_to_double_ratio=64)  # slow in float64, unlike device 0; the extension reads it once
    for device in range(2):
        assert fidfast.cuda.extension(device) is _cuda
    assert loaded.reasons() == []
    return _cuda


@pytest.fixture
def extension(tested_extension, cuda):
    """`fidfast._cuda` on the stand-in. The test fails if a rule of CUDA is broken."""
    cuda.load_kernels(tested_extension.__file__)  # another test may have unloaded them
    yield tested_extension
    assert cuda.reasons() == []


@pytest.fixture
def fail_each_call(cuda, share):
    """`failures.fail_each_call`, without ``--all`` for 6 of the calls."""
    return functools.partial(failures.fail_each_call, cuda, functools.partial(share, keep=6))


@pytest.fixture
def not_built(extension, monkeypatch):
    """Makes the extension unavailable, as in a build without a CUDA compiler."""
    import fidfast

    monkeypatch.setitem(sys.modules, "fidfast._cuda", None)
    monkeypatch.delattr(fidfast, "_cuda")


@pytest.fixture(params=["cpu", "cuda:0"])
def device(request):
    """The host, and the stand-in or a real GPU."""
    if request.param == "cpu":
        return Host()
    if request.config.getoption("--real-gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no GPU")
        return RealDevice()
    request.getfixturevalue("extension")
    return StandinDevice()
