"""A handle of cuBLAS or cuSOLVER serves one thread at a time: calls that take long let threads meet in them."""

import contextlib
import ctypes
import threading
from ctypes import byref, c_int, c_long

import numpy as np
import pytest
from library_calls import Libraries


@contextlib.contextmanager
def slow_libraries(cuda, seconds):
    """Every call of the two takes at least as long."""
    pause = ctypes.CDLL("libcudart.so.13").standin_set_library_pause
    pause(c_long(int(1e6 * seconds)))
    try:
        yield
    finally:
        pause(c_long(0))


def at_once(*works):
    """Runs each in a thread of its own, all from one moment on; what they return, in order."""
    answers = [None] * len(works)
    start = threading.Barrier(len(works))

    def run(place, work):
        start.wait()
        answers[place] = work()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_the_stand_in_sees_two_threads_in_one_handle(cuda):
    libraries = Libraries(cuda)
    with slow_libraries(cuda, 0.2):
        version = c_int()
        call = lambda: cuda.status_of("cublasGetVersion_v2", libraries.blas, byref(version))  # noqa: E731
        assert sorted(at_once(call, call)) == [0, 7]
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
        found = at_once(*(lambda pair=pair: extension.frechet_distance(*pair) for pair in pairs))
    assert found == expected
    assert np.isfinite(found).all()
