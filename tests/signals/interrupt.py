"""Interrupts one long call of each function: ``python tests/signals/interrupt.py [small | large] [NAME ...]``.

Prints for each call the exception it raised, whether its object was unchanged, and the longest time in seconds between
the signal and the exception, also in CPU time of the main thread, for busy machines. ``large`` are the sizes of real
data, interrupted at several moments.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

import fidfast


class Case(NamedTuple):
    """A call, and what must be equal before and after it is interrupted."""

    call: Callable[[], object]
    state: Callable[[], object] = lambda: None


MAIN_CLOCK = time.pthread_getcpuclockid(threading.main_thread().ident)

CASES: dict[str, Callable[[bool], Case]] = {}


def case(make: Callable[[bool], Case]) -> Callable[[bool], Case]:
    CASES[make.__name__] = make
    return make


def rows(n: int, dim: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Distinct rows in little memory: each is the one before, shifted by 16 numbers."""
    numbers = np.random.default_rng(seed).standard_normal(16 * n + dim).astype(dtype)
    return np.lib.stride_tricks.as_strided(numbers, (n, dim), (16 * numbers.itemsize, numbers.itemsize))


def covariance(dim: int, rank: int | None = None) -> np.ndarray:
    columns = np.random.default_rng(1).standard_normal((dim, rank or 8))
    return columns @ columns.T + (0 if rank else np.diag(np.linspace(1, 2, dim)))


def stats(dim: int, rank: int | None = None) -> fidfast.GaussianStats:
    return fidfast.GaussianStats(np.zeros(dim), covariance(dim, rank))


@case
def frechet_distance(large):
    dim = 4096 if large else 2000
    one, two = stats(dim), fidfast.GaussianStats(np.ones(dim), covariance(dim) + np.eye(dim))
    return Case(lambda: fidfast.frechet_distance(one, two))


@case
def frechet_terms_of_singular_covariances(large):
    dim = 3000 if large else 1500
    one, two = stats(dim, dim // 2), stats(dim, dim // 2 + 1)
    return Case(lambda: fidfast.frechet_terms(one, two))


@case
def gaussian_stats_of_an_indefinite_covariance(large):
    dim = 4096 if large else 1500
    sigma = covariance(dim, dim // 2).astype("float32").astype("float64")
    return Case(lambda: fidfast.GaussianStats(np.zeros(dim), sigma))


@case
def gaussian_stats(large):
    sigma = covariance(8192 if large else 4000)
    return Case(lambda: [fidfast.GaussianStats(np.zeros(len(sigma)), sigma) for _ in range(8)])


@case
def transport_map(large):
    dim = 3000 if large else 1500
    one, two = stats(dim), fidfast.GaussianStats(np.ones(dim), covariance(dim) + np.eye(dim))
    return Case(lambda: fidfast.transport_map(one, two))


@case
def update(large):
    features = rows(200_000 if large else 50_000, 2048)
    moments = fidfast.Moments(2048)
    moments.update(features[:3000])
    return Case(lambda: moments.update(features), lambda: {k: v.tobytes() for k, v in moments.state().items()})


@case
def update_in_float64(large):
    features = rows(200_000 if large else 50_000, 2048, dtype="float64")
    moments = fidfast.Moments(2048)
    moments.update(features[:2500])
    return Case(lambda: moments.update(features), lambda: {k: v.tobytes() for k, v in moments.state().items()})


@case
def update_of_blocks(large):
    features = rows(200_000 if large else 50_000, 1024)
    moments = fidfast.Moments(1024, blocks=20)
    moments.update(features[:20_000])
    return Case(lambda: moments.update(features), lambda: {k: v.tobytes() for k, v in moments.state().items()})


@case
def update_of_classes(large):
    features, labels = rows(200_000 if large else 50_000, 1024), np.arange(200_000 if large else 50_000) % 20
    moments = fidfast.ClassMoments(1024)
    moments.update(features[:3000], labels[:3000])
    return Case(lambda: moments.update(features, labels), lambda: {k: v.tobytes() for k, v in moments.state().items()})


@case
def merge_and_unmerge(large):
    dim = 4096 if large else 1024
    one, two = (fidfast.Moments.from_features(rows(dim + 500, dim, seed)) for seed in (0, 1))

    def call():
        for _ in range(200):
            one.merge(two)
            one.unmerge(two)

    return Case(call)


@case
def fid(large):
    one, two = rows(50_000, 2048), rows(50_000, 2048, 1)
    return Case(lambda: fidfast.fid(one, two))


@case
def class_distances(large):
    n = 50_000 if large else 10_000
    moments = [fidfast.ClassMoments(512, num_classes=40) for _ in range(2)]
    for seed, each in enumerate(moments):
        each.update(rows(n, 512, seed), np.arange(n) % 40)
    return Case(lambda: fidfast.class_distances(*moments))


@case
def kid(large):
    one, two = rows(50_000, 2048), rows(50_000, 2048, 1)
    return Case(lambda: fidfast.kid(one, two))


@case
def kid_of_high_degree(large):
    one, two = rows(50_000, 512), rows(50_000, 512, 1)
    return Case(lambda: fidfast.kid(one, two, degree=7))


@case
def kid_subsets(large):
    one, two = rows(50_000, 2048), rows(50_000, 2048, 1)
    return Case(lambda: fidfast.kid_subsets(one, two, subsets=1000, subset_size=1000))


@case
def cmmd(large):
    one, two = rows(50_000, 768), rows(50_000, 768, 1)
    return Case(lambda: fidfast.cmmd(one, two))


@case
def precision_recall(large):
    one, two = rows(20_000, 2048), rows(20_000, 2048, 1)
    return Case(lambda: fidfast.precision_recall(one, two))


@case
def precision_recall_in_float16(large):
    one, two = rows(20_000, 2048), rows(20_000, 2048, 1)
    return Case(lambda: fidfast.precision_recall(one, two, like="adm"))


@case
def manifold_metrics_of_equal_rows(large):
    one, two = np.tile(rows(1, 256), (8000, 1)), rows(8000, 256, 1)
    return Case(lambda: fidfast.manifold_metrics(one, two))


@case
def mifid(large):
    one, two = rows(20_000, 1024), rows(20_000, 1024, 1)
    return Case(lambda: fidfast.mifid(one, two))


@case
def estimate(large):
    one, two = rows(50_000, 2048), rows(50_000, 2048, 1)
    return Case(lambda: fidfast.estimate(one, two))


@case
def compare(large):
    one, two, three = (rows(20_000, 1024, seed) for seed in range(3))
    return Case(lambda: fidfast.compare(one, two, three))


@case
def fid_infinity(large):
    one, two = rows(50_000, 1024), rows(50_000, 1024, 1)
    return Case(lambda: fidfast.fid_infinity(one, two))


@case
def inception_score(large):
    logits = rows(1_000_000 if large else 400_000, 1000)
    return Case(lambda: fidfast.inception_score(logits, splits=10))


@case
def frechet_loss(large):
    import torch

    from fidfast.torch import FrechetLoss

    dim = 4096 if large else 2048
    loss = FrechetLoss(stats(dim))
    features = torch.from_numpy(rows(512, dim).copy()).requires_grad_()
    return Case(lambda: [loss(features).backward() for _ in range(100)])


def texts(n: int) -> list[str]:
    return [f"{i:x} {i * i:x} {i**3:x}" for i in range(n)]


@case
def ngram_update(large):
    counts = fidfast.NgramCounts(5)
    lines = texts(1_000_000 if large else 300_000)
    return Case(lambda: [counts.update(lines) for _ in range(20)] and None)


@case
def ngram_update_of_words(large):
    counts = fidfast.NgramCounts(2, level="word")
    lines = texts(1_000_000 if large else 300_000)
    return Case(lambda: counts.update(line for _ in range(20) for line in lines), lambda: counts.num_ngrams)


@case
def ngram_state(large):
    counts = fidfast.NgramCounts(2, level="word")
    counts.update(texts(1_000_000 if large else 100_000))

    def call():
        for _ in range(10):
            fidfast.NgramCounts.from_state(counts.state())

    return Case(call, lambda: counts.num_ngrams)


@case
def ngram_jsd(large):
    one, two = fidfast.NgramCounts(6), fidfast.NgramCounts(6)
    lines = texts(1_000_000 if large else 200_000)
    one.update(lines)
    two.update(lines[::-2])
    return Case(lambda: [fidfast.ngram_jsd(one, two) for _ in range(50)], lambda: one.num_ngrams)


@case
def most_common(large):
    counts = fidfast.NgramCounts(6)
    counts.update(texts(1_000_000 if large else 200_000))
    return Case(lambda: [counts.most_common(None) for _ in range(10)])


@case
def save_and_load(large):
    moments = fidfast.Moments.from_features(rows(9000, 4096 if large else 1024))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "moments.npz")

        def call():
            os.makedirs(folder, exist_ok=True)
            for _ in range(100):
                moments.save(path)
                fidfast.Moments.load(path)

    return Case(call)


def now() -> np.ndarray:
    """Time, and the CPU time of the main thread."""
    return np.array([time.perf_counter(), time.clock_gettime(MAIN_CLOCK)])


#: Outcome of a call that returned before the signal was sent.
ENDED = "ended before"


def interrupted(call: Callable[[], object], delay: float) -> tuple[str, np.ndarray]:
    """Name of the exception that the call raised, and the time since the signal as `now` measures it."""
    sent: list[np.ndarray] = []

    def send() -> None:
        time.sleep(delay)
        sent.append(now())
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    name = "nothing"
    try:
        sender.start()
        call()
        name = "nothing" if sent else ENDED
    except BaseException as error:  # what a handler raises need not be an Exception
        name = type(error).__name__
    response = now() - sent[0] if sent else np.zeros(2)
    try:
        sender.join()
    except KeyboardInterrupt:
        pass
    return name, response


def wait_for_routines() -> None:
    """Wait for routines of LAPACK that an interrupted call has left behind."""
    used = -1.0
    while time.process_time() - used > 0.05:
        used = time.process_time()
        time.sleep(0.2)


def delays(large: bool) -> Iterator[float]:
    yield 0.1
    if large:
        yield from (0.5, 1.5)


def main(size: str = "small", *names: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs that ignore it
    large = size == "large"
    results = {}
    for name in names or CASES:
        made = CASES[name](large)
        outcomes, same, longest = set(), True, np.zeros(2)
        for delay in delays(large):
            before = made.state()
            outcome, response = interrupted(made.call, delay)
            while outcome == ENDED and not outcomes and delay > 0.001:
                delay /= 2  # a fast machine ends the call before the first delay
                outcome, response = interrupted(made.call, delay)
            if outcome == ENDED and outcomes:
                break  # the call is shorter than this delay, and was interrupted after shorter ones
            outcomes.add(outcome)
            same = same and made.state() == before
            longest = np.maximum(longest, response)
            if large:
                wait_for_routines()
        results[name] = [sorted(outcomes), same, longest.round(3).tolist()]
        print(
            f"{name:45s} {', '.join(sorted(outcomes)):20s} {longest[0]:.3f} s, CPU {longest[1]:.3f} s",
            file=sys.stderr,
            flush=True,
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
