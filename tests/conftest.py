"""Shared by all tests: the installed package, the options, a random generator."""

import sys
from pathlib import Path

# `python -m pytest` puts the source tree first, but the package is not compiled there: test the installed one.
_ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from cuda_process import cuda_tests  # noqa: E402, F401
from options import pytest_addoption, pytest_collection_modifyitems, pytest_configure, share  # noqa: E402, F401


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip tests/cuda unless it is named: it needs a process without torch, which `cuda_process.py` starts."""
    alone = Path(__file__).with_name("cuda")
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if collection_path == alone and not any(alone in (path, *path.parents) for path in named):
        return True
    return None


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20151205)
