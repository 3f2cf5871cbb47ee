"""Handles of cuBLAS and cuSOLVER are used by one thread at a time. Slow calls make concurrent use likely."""

import contextlib
import ctypes
import threading
from ctypes import byref, c_int, c_long

import numpy as np
import pytest
from library_calls import Libraries


@contextlib.contextmanager
def slow_libraries(cuda, seconds):
    """Every call of cuBLAS and cuSOLVER takes at least this long."""
    pause = ctypes.CDLL("libcudart.so.13").standin_set_library_pause
    pause(c_long(int(1e6 * seconds)))
    try:
        yield
    finally:
        pause(c_long(0))


def run_concurrently(*works):
    """Run each function in its own thread, starting at the same time. Returns their results."""
    results = [None] * len(works)
    start = threading.Barrier(len(works))

    def run(index, work):
        start.wait()
        results[index] = work()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_the_stand_in_detects_concurrent_use_of_a_handle(cuda):
    libraries = Libraries(cuda)
    with slow_libraries(cuda, 0.2):
        version = c_int()
        call = lambda: cuda.status_of("cublasGetVersion_v2", libraries.blas, byref(version))  # noqa: E731
        assert sorted(run_concurrently(call, call)) == [0, 7]
    assert "the handle is in use by another thread" in cuda.reasons()[-1]
    cuda.reset()
    libraries.close()


@pytest.mark.parametrize("n", [20, 4])
def test_distances_in_two_threads(cuda, extension, rng, n):
    """By Cholesky and eigenvalues, and by singular values."""

    def gaussian():
        moments = extension.Moments(5, "float64", 0)
        moments.update(rng.standard_normal((n, 5)))
        return moments.stats(1)

    pairs = [(gaussian(), gaussian()) for _ in range(3)]
    expected = [extension.frechet_distance(*pair) for pair in pairs]
    with slow_libraries(cuda, 0.01):
        found = run_concurrently(*(lambda pair=pair: extension.frechet_distance(*pair) for pair in pairs))
    assert found == expected
    assert np.isfinite(found).all()
