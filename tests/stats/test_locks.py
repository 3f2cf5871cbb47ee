"""Objects that several threads change, and processes that are forked meanwhile."""

import contextlib
import copy
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor, TimeoutError  # Python 3.10 has its own

import numpy as np
import pytest

import fidfast
from fidfast import ClassMoments, InceptionScore, Moments
from fidfast._stats import holding, locks

ROWS = np.random.default_rng(0).normal(size=(60, 3))
LABELS = np.arange(60) % 7


def batch(i):
    return slice(3 * (i % 20), 3 * (i % 20) + 3)


def add_rows(target, i):
    target.update(ROWS[batch(i)])


def add_classes(target, i):
    target.update(ROWS[batch(i)], LABELS[batch(i)])


#: How to create an object, and how to add the i-th batch of 3 rows: one in each block, or in each of three classes.
COLLECTORS = {
    "Moments": (lambda: Moments(3, blocks=3), add_rows),
    "Moments of one block": (lambda: Moments(3), add_rows),
    "ClassMoments": (lambda: ClassMoments(3), add_classes),
    "InceptionScore": (lambda: InceptionScore(3, splits=2), add_rows),
}
collectors = pytest.mark.parametrize(("create", "add"), COLLECTORS.values(), ids=COLLECTORS)


def in_threads(*calls):
    """Run the calls at the same time, each in its own thread; fails after a minute."""
    start = threading.Barrier(len(calls))

    def run(call):
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, call) for call in calls]]


@collectors
def test_no_row_is_lost_and_every_snapshot_is_complete(create, add):
    target, part = create(), create()
    add(part, 0)
    snapshots = []

    def update(first):
        for i in range(first, 20, 2):
            add(target, i)

    def merge():
        for _ in range(10):
            target.merge(part)

    def merge_and_unmerge():
        for _ in range(10):
            target.merge(part)
            if isinstance(target, Moments):
                target.unmerge(part)

    def look():
        for _ in range(20):
            snapshots.append((copy.copy(target), pickle.loads(pickle.dumps(target)), target + part))
            repr(target)
            assert target == target

    in_threads(lambda: update(0), lambda: update(1), merge, merge_and_unmerge, merge_and_unmerge, look)
    assert target.num_samples == 60 + 30 + (0 if isinstance(target, Moments) else 60)
    for snapshot in snapshots:
        for each in snapshot:  # a torn one would hold a part of a batch
            counts = [block.num_samples for block in each.blocks] if isinstance(each, Moments) else [each.num_samples]
            assert len(set(counts)) == 1
            assert sum(counts) % 3 == 0


@collectors
def test_merging_into_each_other_does_not_deadlock(create, add):
    one, two = create(), create()
    for target in (one, two):
        for i in range(4):
            add(target, i)

    def repeat(a, b):
        for _ in range(12):
            a.merge(b)

    in_threads(lambda: repeat(one, two), lambda: repeat(two, one))
    assert one.num_samples > 12 * 12
    before = one.num_samples
    in_threads(lambda: one.merge(one))
    assert one.num_samples == 2 * before


@collectors
def test_a_failed_call_releases_the_lock(create, add):
    target = create()
    add(target, 0)
    with pytest.raises((TypeError, ValueError)):
        target.update(np.full((1, 3), np.nan), *([["a"]] if isinstance(target, ClassMoments) else []))
    assert in_threads(lambda: target.num_samples) == [3]


def test_blocks_share_the_lock():
    target = Moments(3, blocks=3)
    views = target.blocks
    waiting = threading.Event()

    def count():
        waiting.set()
        return views[2].num_samples

    with ThreadPoolExecutor(1) as pool:
        with holding(views[0]):
            counted = pool.submit(count)
            assert waiting.wait(60)
            target.update(ROWS[:6])  # this thread has the lock
            with pytest.raises(TimeoutError):
                counted.result(timeout=0.05)
        assert counted.result(timeout=60) == 2


@collectors
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_finds_complete_objects_and_free_locks(create, add):
    target = create()
    add(target, 0)
    stop = threading.Event()

    def update():
        i = 0
        while not stop.is_set():
            add(target, i % 60)
            i += 1

    thread = threading.Thread(target=update)
    thread.start()
    statuses = []
    try:
        for _ in range(8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
                child = os.fork()
            if child == 0:
                try:
                    add(target, 0)
                    os._exit(0 if copy.copy(target).num_samples == target.num_samples > 1 else 1)
                finally:
                    os._exit(2)
            statuses.append(os.waitpid(child, 0)[1])
    finally:
        stop.set()
        thread.join(60)
    assert statuses == [0] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_lock_that_is_never_released_is_free_after_a_fork(monkeypatch):
    monkeypatch.setattr(locks, "_FORK_TIMEOUT", 0.05)
    target, held, stop = Moments(3, blocks=3), threading.Event(), threading.Event()

    def hold():
        with holding(target):
            held.set()
            stop.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os._exit(0 if target.num_samples == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        thread.join(60)
    assert target.num_samples == 0  # and the parent's lock was released by its holder only


def test_class_distances_of_objects_that_change(tmp_path):
    a, b = ClassMoments(3), ClassMoments(3)
    for each in (a, b):
        each.update(ROWS, LABELS)

    def update():
        for i in range(20):
            a.update(ROWS[3 * i : 3 * i + 3], [100 + i] * 3)
            b.reset()
            b.update(ROWS, LABELS)

    def distances():
        for _ in range(5):
            with contextlib.suppress(ValueError):  # b is empty: "fewer than 2 rows"
                fidfast.class_distances(a, b, skip_incomplete=True)
            a.save(tmp_path / "classes.npz")

    in_threads(update, distances)
    assert ClassMoments.load(tmp_path / "classes.npz").num_samples % 3 == 0


def test_locks_of_deleted_objects_are_forgotten():
    kept = Moments(2)
    for _ in range(5000):
        Moments(2)
    assert len(locks._LOCKS) <= 2 * 1024
    assert kept._lock in locks._all_locks()
