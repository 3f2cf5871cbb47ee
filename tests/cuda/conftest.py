"""The stand-in for CUDA, fresh for each test, and the extension on it.

These tests need a process without a CUDA build of torch. With ``--real-gpu`` torch is loaded, and those of them that
state laws state them of a real GPU.
"""

import gc
import importlib.util
import sys
from ctypes import c_void_p

import pytest
import standin
from places import Host, RealDevice, StandinDevice


def pytest_addoption(parser):
    parser.addoption("--real-gpu", action="store_true", help="state the laws of a real GPU, by way of torch")


def pytest_configure(config):
    if config.getoption("--real-gpu"):
        import torch  # noqa: F401  # before anything asks for the stand-in


def load_standin():
    """`standin.Standin`, or the test is skipped."""
    if "torch" in sys.modules:
        pytest.skip("torch is in this process, and may have the real CUDA libraries; run tests/cuda alone")
    try:
        return standin.load()
    except standin.UnavailableError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def cuda():
    """`standin.Standin` as after loading. What a test breaks on purpose it has to expect: `reasons` is not checked."""
    loaded = load_standin()
    loaded.reset()
    before = loaded.live()
    yield loaded
    if loaded.live() != before:
        gc.collect()  # what a caught exception holds
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


@pytest.fixture(scope="session")
def first_look():
    """The extension, where it was tried out on both devices; what it keeps from then on is no leak."""
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
    loaded.set_device(1, single_to_double_ratio=64)  # the extension asks once; the first device is fast in float64
    for device in range(2):
        assert fidfast.cuda.extension(device) is _cuda
    assert loaded.reasons() == []
    return _cuda


@pytest.fixture
def extension(first_look, cuda):
    """`fidfast._cuda` on the stand-in; that nothing breaks its rules is checked."""
    cuda.load_kernels(first_look.__file__)  # another test may have made it forget them
    yield first_look
    assert cuda.reasons() == []


@pytest.fixture
def not_built(extension, monkeypatch):
    """As where there was no CUDA compiler."""
    import fidfast

    monkeypatch.setitem(sys.modules, "fidfast._cuda", None)
    monkeypatch.delattr(fidfast, "_cuda")


@pytest.fixture(params=["cpu", "cuda:0"])
def device(request):
    """Where the laws are stated: on the host, and on the stand-in or a real GPU."""
    if request.param == "cpu":
        return Host()
    if request.config.getoption("--real-gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("torch finds no GPU")
        return RealDevice()
    request.getfixturevalue("extension")
    return StandinDevice()
