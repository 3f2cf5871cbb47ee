"""Shared by all tests: the installed package, strict Hypothesis, real features."""

import sys
from pathlib import Path

# `python -m pytest` puts the source tree first, where the package is not compiled; the installed one is tested.
_ROOT = Path(__file__).parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != _ROOT]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from options import pytest_addoption, pytest_collection_modifyitems, pytest_configure, share  # noqa: E402, F401


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tests of the CUDA half need a process without torch, which `test_cuda.py` gives them, or who names them."""
    alone = Path(__file__).with_name("cuda")
    named = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    if collection_path == alone and not any(alone in (path, *path.parents) for path in named):
        return True
    return None


settings.register_profile("laws", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("laws")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20151205)
