"""Tests on a GPU: ``pytest tests/gpu``. They are skipped without a GPU.

``pytest tests/gpu --standin`` runs all but the timings on the stand-in of tests/cuda, in small dims.
"""

import functools
import importlib.util
from pathlib import Path

import pytest
from gpus import StandinGpu, TorchGpu

HERE = Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--standin", action="store_true", help="run on the stand-in for CUDA, to test the tests")


def on_standin(config):
    return config.getoption("--standin", False)


@functools.cache
def why_not():
    """Why there is no GPU to test, or None."""
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    import torch

    if not torch.cuda.is_available():
        return "torch finds no GPU"
    import fidfast.cuda

    if not fidfast.cuda.available():
        return f"fidfast cannot use it: {fidfast.cuda.info()['reason']}"
    return None


def pytest_ignore_collect(collection_path, config):
    """Without a GPU, these files are collected only if they are named on the command line."""
    paths = [Path(str(argument).split("::")[0]).resolve() for argument in config.args]
    named = any(path == HERE or HERE in path.parents for path in paths)
    return True if not named and why_not() is not None else None


def pytest_report_header(config):
    if on_standin(config) or why_not() is not None:
        return []
    import torch

    import fidfast.cuda

    info = fidfast.cuda.info()
    lines = [
        f"torch {torch.__version__}, fidfast compiled for {info['architectures']}",
        ", ".join(f"{name} {value}" for name, value in info["libraries"].items()),
    ]
    for number, device in enumerate(info["devices"]):
        major, minor = device["compute_capability"]
        lines.append(
            f"cuda:{number}: {device['name']}, compute capability {major}.{minor}, {device['memory'] / 2**30:.0f} GiB, "
            f"{device['multiprocessors']} multiprocessors"
        )
    return lines


def pytest_runtest_setup(item):
    if not on_standin(item.config) and (reason := why_not()) is not None:
        pytest.skip(f"no GPU to test: {reason}")


@pytest.fixture(scope="session")
def gpu(request):
    if not on_standin(request.config):
        yield TorchGpu()
        return
    import standin

    cuda = standin.load()  # before the extension loads the real libraries
    from fidfast import _cuda

    cuda.load_kernels(_cuda.__file__)
    yield StandinGpu("cuda:0", cuda)
    assert cuda.reasons() == []


@pytest.fixture(params=range(3), ids=lambda index: f"dim{TorchGpu.dims[index]}")
def dim(request, gpu):
    """Each of `gpu.dims`."""
    if request.param >= len(gpu.dims):
        pytest.skip("the stand-in is slow")
    return gpu.dims[request.param]


_timings = pytest.StashKey()


@pytest.fixture
def print_timing(request):
    """Prints a line after all tests have run."""
    lines = request.config.stash.setdefault(_timings, [])
    return lines.append


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(_timings, []):
        terminalreporter.section("timings")
        for line in lines:
            terminalreporter.write_line(line)
