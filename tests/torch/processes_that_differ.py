"""Program of two processes whose arguments differ, or of which one fails; see `test_metric.py`."""

import copy

import numpy as np
import pytest
import torch
import torch.distributed as dist

import fidfast
import fidfast.torch as ft


def expect(call, kind, pattern):
    with pytest.raises(kind, match=pattern):
        call()


def compare(rank):
    """Both processes raise the same error, and keep their moments."""
    rows = np.random.default_rng(rank).normal(size=(9, 4))
    precision = ("float32", "float64")[rank]
    pairs = {
        "dim, got 4 on rank 0 and 5 on rank 1": fidfast.Moments(4 + rank),
        "number of blocks, got 2 on rank 0 and 3 on rank 1": fidfast.Moments(4, blocks=2 + rank),
        "precision, got 'float32' on rank 0 and 'float64' on rank 1": fidfast.Moments(4, precision=precision),
        "extractor, got 'a' on rank 0 and 'b' on rank 1": fidfast.Moments(4, extractor="ab"[rank]),
    }
    for values, moments in pairs.items():
        moments.update(rows[:, :1].repeat(moments.dim, axis=1))
        before = copy.copy(moments)
        expect(lambda moments=moments: ft.all_reduce(moments), ValueError, f"all processes must have the same {values}")
        assert moments == before
    named = fidfast.Moments(4, extractor=(None, "b")[rank])
    ft.all_reduce(named)
    assert named.extractor == "b"
    metric = ft.FrechetDistance(None, np.eye(4 + rank), blocks=2)
    metric.update_features(np.eye(4 + rank))
    for call in (metric.compute, metric.estimate):
        expect(call, ValueError, "the same dim, got 4 on rank 0 and 5 on rank 1")

    def columns(images):
        return images.mean(dim=(2, 3))[:, : 2 + rank]

    options = {"batch_size": 2, "device": "cpu"}
    for function, name in ((ft.moments_of_samples, "dim"), (ft.features_of_samples, "shape of the features")):

        def call(function=function):
            function(lambda n: torch.rand(n, 3, 4, 4), 8, columns, **options)

        expect(call, ValueError, f"the same {name}, got")


def fail(rank):
    """An error of one process is an error of both."""
    rows = np.random.default_rng(rank).normal(size=(9, 4))
    moments = fidfast.Moments(4, blocks=2)
    moments.update(rows)
    before = copy.copy(moments)

    def both(call, kind, pattern):
        if rank == 1:
            expect(call, kind, pattern)
        else:
            expect(call, RuntimeError, f"another process failed: rank 1 raised {kind.__name__}: .*{pattern}")

    both(lambda: ft.all_reduce((moments, 3)[rank]), TypeError, "moments must be a Moments, got 3")

    state = fidfast.Moments.state
    calls = []

    def out_of_memory(self):  # while the second block is packed
        calls.append(self)
        if rank == 1 and len(calls) == 2:
            raise MemoryError("none left")
        return state(self)

    def damaged(self):
        return {**state(self), "0/wide_rows": np.full((9, 4), np.nan if rank == 1 else 1.0)}

    metric = ft.FrechetDistance(None, np.eye(4), blocks=2)
    metric.update_features(rows)
    for replacement, kind, pattern in (
        (out_of_memory, MemoryError, "none left"),
        (damaged, ValueError, "moments hold NaN or infinity"),
    ):
        for call in (lambda: ft.all_reduce(moments), metric.compute, metric.estimate):
            calls.clear()
            fidfast.Moments.state = replacement
            try:
                both(call, kind, pattern)
            finally:
                fidfast.Moments.state = state
            assert moments == before

    def generator(n):
        if rank == 1:
            raise FloatingPointError("of the generator")
        return torch.rand(n, 3, 4, 4)

    def extractor(images):
        return images.mean(dim=(2, 3))

    metric = ft.FrechetDistance(extractor, np.eye(3)).to("cpu")
    options = {"batch_size": 2, "device": "cpu"}
    for call in (
        lambda: ft.moments_of_samples(generator, 8, extractor, **options),
        lambda: ft.features_of_samples(generator, 8, extractor, **options),
        lambda: ft.fid_of_samples(generator, np.eye(3), extractor, num_samples=8, **options),
        lambda: metric.update_samples(generator, 8, batch_size=2),
    ):
        both(call, FloatingPointError, "of the generator")
    both(lambda: ft.fid_of_samples(lambda n: torch.rand(n, 3, 4, 4), (np.eye(3), "gone.npz")[rank], extractor,
                                   num_samples=8, **options), FileNotFoundError, "gone.npz")  # fmt: skip
    both(lambda: ft.moments_of_samples(lambda n: torch.rand(n, 3, 4, 4), (8, 1)[rank], extractor, **options),
         ValueError, "num_samples must be at least 2, got 1")  # fmt: skip
    ft.all_reduce(moments)  # the processes still agree on what comes next
    assert moments.num_samples == 18


def run():
    rank = dist.get_rank()
    compare(rank)
    fail(rank)
