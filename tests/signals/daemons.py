"""Ends while daemon threads are in a call: ``python tests/signals/daemons.py CALL``."""

import sys
import threading
import time

import numpy as np

import fidfast

RNG = np.random.default_rng(0)


def rows(n: int, dim: int) -> np.ndarray:
    return RNG.standard_normal((n, dim)).astype("float32")


class Exporter:
    """Its ``__dlpack__`` is Python code, in which the interpreter may switch threads."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, **options):
        for _ in range(2000):
            pass
        return self._array.__dlpack__()


A, B, SMALL = rows(600, 64), rows(500, 64), rows(8, 4)
# Indefinite by rounding: eigenvectors by LAPACK, which cannot be interrupted.
SIGMA = np.cov(rows(500, 1000).T).astype("float32").astype("float64")
COUNTS = fidfast.NgramCounts(3)
MOMENTS = fidfast.Moments(4)

CALLS = {
    "update": lambda: MOMENTS.update(SMALL),
    "exporter": lambda: MOMENTS.update(Exporter(SMALL)),
    "frechet": lambda: fidfast.fid(A, B),
    "lapack": lambda: fidfast.GaussianStats(np.zeros(1000), SIGMA),
    "kid": lambda: fidfast.kid(A, B),
    "precision_recall": lambda: fidfast.precision_recall(A, B),
    "ngrams": lambda: COUNTS.update(f"hello {i}" for i in range(3000)),
    "estimate": lambda: fidfast.estimate(A, B),
}


def repeat(call) -> None:
    while True:
        call()


if __name__ == "__main__":
    chosen = CALLS[sys.argv[1]]
    chosen()
    for _ in range(3):
        threading.Thread(target=repeat, args=(chosen,), daemon=True).start()
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0.05)
    sys.exit(3)
