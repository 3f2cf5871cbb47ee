"""Reference problems whose results on a GPU are compared with those on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fidfast import _core

__all__ = ["TOLERANCE", "DeviceDifference", "compare", "problems", "self_test_values"]

#: Largest relative difference between results of `problems` on two devices: rounding of sums in different orders.
TOLERANCE = 1e-11

Values = NDArray[np.float64]
#: Solves a problem with a compiled module on one of its devices.
Solver = Callable[[Any, int], Values]


class DeviceDifference(NamedTuple):
    """Results of one problem on a GPU and on the CPU."""

    difference: float  # relative to the largest absolute value of the CPU's result
    gpu_seconds: float
    cpu_seconds: float


def compare(module: Any, device: int, solve: Solver) -> DeviceDifference:
    """Solve a problem on a GPU and on the CPU. The GPU runs it twice: the first call loads libraries and kernels."""
    solve(module, device)
    on_gpu, gpu_seconds = _timed(solve, module, device)
    on_cpu, cpu_seconds = _timed(solve, _core, 0)
    difference = float(np.abs(on_gpu - on_cpu).max() / np.abs(on_cpu).max())
    return DeviceDifference(difference, gpu_seconds, cpu_seconds)


def _timed(solve: Solver, module: Any, device: int) -> tuple[Values, float]:
    start = time.perf_counter()
    result = solve(module, device)
    return result, time.perf_counter() - start


def self_test_values(module: Any, device: int, tensor_cores: bool) -> dict[str, float]:
    """Numbers that depend on every code path of a device, computed in milliseconds.

    Moments, distance, transport map and jackknife of 40 and 7 rows in dim 6. With `tensor_cores`, also a covariance of
    float16 rows in the smallest dim that uses them.
    """
    rng = np.random.default_rng(1)
    many, few = rng.standard_normal((40, 6)), rng.standard_normal((7, 6)) + 1
    first = _stats(module, device, many.astype(np.float32))
    second = _stats(module, device, few)
    jackknife = module.Jackknife(first, second, True, False, "float64", True)
    values = {
        "distance": module.frechet_distance(first, second),
        "trace of the transport map": float(np.trace(module.transport_map(first, second))),
        "distance without row 0": float(jackknife.without(False, many.astype(np.float32))[0][0]),
    }
    if tensor_cores:
        sigma = _float16_covariance(module, device, 512)
        weights = rng.standard_normal(512) / np.sqrt(np.diag(sigma))
        values["variance of float16 rows in one direction"] = float(weights @ sigma @ weights)
    return values


def _float16_covariance(module: Any, device: int, dim: int) -> Values:
    """Covariance of float16 rows of small integers, whose float32 sums over 64 rows are exact.

    Half of the units also fit in bfloat16, the others do not, and the last sixteenth is too far from the origin for
    16-bit products: three code paths of the tensor core kernel.
    """
    rows = np.random.default_rng(3).integers(-3, 4, (dim + 16, dim))
    rows[:, dim // 2 :] *= 101  # 303 has nine bits
    rows[:, -dim // 16 :] += 1000
    precision = "float64" if module is _core else "float32"  # float64 gives the reference
    return np.asarray(_stats(module, device, rows.astype(np.float16), precision=precision).sigma)


def _stats(module: Any, device: int, *batches: Any, precision: str = "float64") -> Any:
    moments = module.Moments(batches[0].shape[1], precision, device)
    for batch in batches:
        moments.update(batch)
    return moments.stats(1)


def problems(dim: int) -> Iterator[tuple[str, Solver]]:
    """Names and solvers of all reference problems with features of `dim` units."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((5 * dim, dim)) @ (rng.standard_normal((dim, dim)) / np.sqrt(dim)) + 3
    other_rows = 1.2 * rng.standard_normal((4 * dim, dim)) + 3
    few = dim // 2 + 1

    def covariance(dtype: str) -> Solver:
        batches = np.array_split(rows.astype(dtype), 7)
        return lambda module, device: np.asarray(_stats(module, device, *batches).sigma)

    for dtype in ("float16", "float32", "float64"):
        yield f"covariance of {dtype} rows in batches", covariance(dtype)

    def float16_covariance(module: Any, device: int) -> Values:
        return _float16_covariance(module, device, dim)

    yield "covariance of float16 rows in float32", float16_covariance

    def merged(module: Any, device: int) -> Values:
        parts = [module.Moments(dim, "float64", device) for _ in range(2)]
        for part, half in zip(parts, np.array_split(rows, 2), strict=True):
            part.update(half)
        parts[0].merge(parts[1])
        return np.asarray(parts[0].stats(1).sigma)

    yield "covariance of two merged halves", merged

    def pair(module: Any, device: int, n: int) -> tuple[Any, Any]:
        return _stats(module, device, rows[:n]), _stats(module, device, other_rows)

    def distance(n: int) -> Solver:
        return lambda module, device: np.array([module.frechet_distance(*pair(module, device, n))])

    yield "distance, full rank", distance(len(rows))
    yield "distance, fewer rows than units", distance(few)
    singular = np.cov(rows[:few], rowvar=False)

    def singular_distance(module: Any, device: int) -> Values:
        gaussian = module.Gaussian(np.zeros(dim), singular, few, device)
        return np.array([module.frechet_distance(gaussian, _stats(module, device, other_rows))])

    yield "distance, singular covariance", singular_distance
    yield "transport map", lambda module, device: module.transport_map(*pair(module, device, len(rows)))

    def leave_one_out(module: Any, device: int) -> Values:
        jackknife = module.Jackknife(*pair(module, device, len(rows)), True, True, "float64", True)
        return np.concatenate(jackknife.without(False, rows))

    yield "distance without each row", leave_one_out
