"""Each CUDA call of moments fails in turn: an error is raised, nothing leaks or changes, and a retry succeeds."""

import copy

import numpy as np
import pytest
from device_arrays import DeviceArray

from fidfast import Moments, _core

pytestmark = pytest.mark.usefixtures("extension")


def near(found, expected):
    """Equal up to the rounding of sums in a different order."""
    return np.allclose(found, expected, rtol=1e-12, atol=1e-12)


def moments_of(*batches):
    moments = Moments(3, precision="float64", device="cuda:0")
    for batch in batches:
        moments.update(DeviceArray(batch))
    return moments


def bits(moments):
    """The complete state, for comparisons without a kernel."""
    (state,) = (block.state() for block in moments._blocks)
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in state.values()]


def moments_with(extension, rng, folded, waiting):
    """Moments with a mean and scatter of `folded` rows and `waiting` rows, on the device and on the host."""
    mixing = rng.standard_normal((3, 3))
    state = {
        "dim": 3,
        "precision": "float64",
        "count": folded,
        "mean": rng.standard_normal(3),
        "mean_low": np.zeros(3),
        "scatter": folded * mixing @ mixing.T,
        "narrow_rows": np.zeros((0, 3), np.float32),
        "wide_rows": rng.standard_normal((waiting, 3)),
    }
    host = Moments._from_cores([_core.Moments.from_state(state)], None)
    return Moments._from_cores([extension.Moments.from_state(state, 0)], None), host


# Moments ------------------------------------------------------------------------------------------------------------


def test_creating_moments(fail_each_call):
    names = fail_each_call(
        lambda: (),
        lambda: Moments(3, device="cuda:0"),
        lambda moments: moments == Moments(3, device="cuda:0"),
    )
    assert names.count("cudaMalloc") > 15
    assert "cudaHostAlloc" in names


#: Number of rows before the update, and of the batch. Up to dim rows are kept; later rows wait until a block is full.
UPDATES = {
    "kept": (1, 2),
    "kept to waiting": (3, 4),
    "waiting": (40, 5),
    "one block": (1020, 10),
    "first block": (0, 1024),
    "second block": (2040, 10),
    "several blocks": (1020, 1030),
}


@pytest.mark.grid(keep=3)
@pytest.mark.parametrize("with_stream", [True, False])
@pytest.mark.parametrize("size", UPDATES)
def test_updates(rng, fail_each_call, streams, size, with_stream):
    first, n = UPDATES[size]
    rows = rng.standard_normal((first + n, 3))
    stream = streams()
    batch = DeviceArray(rows[first:], stream=stream)
    start = moments_of(rows[:first])
    before, after = bits(start), bits(moments_of(*([rows[:first]] if first else []), rows[first:]))
    names = fail_each_call(
        lambda: (copy.copy(start),),
        lambda moments: moments.update(batch, stream=stream if with_stream else None),
        lambda _, moments: bits(moments) == after,
        lambda moments: bits(moments) == before,
    )
    if with_stream:
        assert names[-2:] == ["cudaEventRecord", "cudaStreamWaitEvent"]
        assert "cudaStreamSynchronize" not in names
    else:
        assert names[-1] == "cudaStreamSynchronize"
    assert ("cublasDsyrk_v2" in names) == ("block" in size)


def test_updates_from_the_host(rng, fail_each_call):
    rows = rng.standard_normal((9, 3))
    start = moments_of(rows[:4])
    before, after = bits(start), bits(moments_of(rows[:4], rows[4:]))
    fail_each_call(
        lambda: (copy.copy(start),),
        lambda moments: moments.update(rows[4:]),
        lambda _, moments: bits(moments) == after,
        lambda moments: bits(moments) == before,
    )


#: Numbers of folded and waiting rows of both moments.
MERGES = {
    "kept": ((0, 1), (0, 2)),
    "waiting": ((0, 2), (0, 2)),
    "folded with waiting": ((1030, 1), (0, 2)),
    "both folded": ((1030, 0), (1100, 1)),
}


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize("size", MERGES)
def test_merge_and_unmerge(extension, rng, fail_each_call, size):
    (one, _), (other, _) = (moments_with(extension, rng, *rows) for rows in MERGES[size])
    merged = one + other
    before, after, other_bits = bits(one), bits(merged), bits(other)
    fail_each_call(
        lambda: (copy.copy(one),),
        lambda moments: moments.merge(other),
        lambda _, moments: [bits(moments), bits(other)] == [after, other_bits],
        lambda moments: [bits(moments), bits(other)] == [before, other_bits],
    )
    rest = copy.copy(merged)
    rest.unmerge(other)
    expected = bits(rest)
    fail_each_call(
        lambda: (copy.copy(merged),),
        lambda moments: moments.unmerge(other),
        lambda _, moments: [bits(moments), bits(other)] == [expected, other_bits],
        lambda moments: [bits(moments), bits(other)] == [after, other_bits],
    )


READERS = {
    "stats": lambda moments, kept: moments.stats(),
    "copy": lambda moments, kept: copy.copy(moments),
    "state": lambda moments, kept: moments.state(),
    "==": lambda moments, kept: moments == kept,
}


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize("rows", [(0, 2), (0, 5), (1030, 2)], ids=["kept", "waiting", "folded with waiting"])
@pytest.mark.parametrize("reader", READERS)
def test_reading(extension, rng, fail_each_call, rows, reader):
    moments, host = moments_with(extension, rng, *rows)
    kept, before, sigma = copy.copy(moments), bits(moments), host.stats().sigma
    correct = {
        "stats": lambda stats: near(stats.sigma, sigma),
        "copy": lambda other: bits(other) == before,
        "state": lambda state: state["0/count"] == rows[0] and len(state["0/wide_rows"]) == rows[1],
        "==": lambda equal: equal,
    }[reader]
    fail_each_call(lambda: (), lambda: READERS[reader](moments, kept), correct, lambda: bits(moments) == before)


@pytest.mark.parametrize("rows", [(0, 2), (1030, 1)], ids=["kept", "folded with waiting"])
def test_reset(extension, rng, fail_each_call, rows):
    start = moments_with(extension, rng, *rows)[0]
    before, empty = bits(start), bits(Moments(3, precision="float64", device="cuda:0"))
    fail_each_call(
        lambda: (copy.copy(start),),
        lambda moments: moments.reset(),
        lambda _, moments: bits(moments) == empty,
        lambda moments: bits(moments) == before,
    )


@pytest.mark.parametrize("rows", [(0, 2), (1030, 1)], ids=["kept", "folded with waiting"])
def test_a_nonfinite_batch(extension, rng, cuda, streams, rows, fail_each_call):
    """Rows of earlier batches stay, whether the bad batch is reported or discarded by a reset."""
    start = moments_with(extension, rng, *rows)[0]
    before, empty = bits(start), bits(Moments(3, precision="float64", device="cuda:0"))
    stream = streams()
    bad, good = (DeviceArray(values, stream=stream) for values in (np.full((5, 3), np.inf), np.ones((5, 3))))

    def make():
        moments = copy.copy(start)
        moments.update(bad, stream=stream)
        moments.update(good, stream=stream)
        cuda.synchronize()
        return (moments,)

    def unchanged(moments):
        """The first read reports the bad batch, unless it was reported before."""
        try:
            assert bits(moments) == before
        except ValueError as error:
            assert "the first such row is 0 of an earlier batch; that batch and all later ones (1)" in str(error)  # noqa: PT017
        return bits(moments) == before

    fail_each_call(make, Moments.reset, lambda _, moments: bits(moments) == empty, unchanged)

    def read(moments):
        with pytest.raises(ValueError, match=r"row is 0 of an earlier batch; that batch and all later ones \(1\)"):
            moments.stats()

    fail_each_call(
        make,
        read,
        lambda _, moments: bits(moments) == before,
        lambda moments: moments.num_samples - sum(rows) in (0, 10),
    )


def test_float32_rows_are_not_treated_as_float16_after_a_failure(cuda, extension, streams):
    """Devices that are slow in float64 multiply float16 rows on tensor cores. No queued work runs in this test."""
    stream = streams(1)
    float32, float16, rest = (
        DeviceArray((n, 512), dtype, device=1, stream=stream)
        for n, dtype in ((1000, np.float32), (30, np.float16), (24, np.float16))
    )
    both = [extension.Moments(512, "float32", 1) for _ in range(2)]
    for moments in both:
        moments.update(float32, stream)
    cuda.clear_calls()
    both[0].update(float16, stream)  # folds a block, and leaves a few float16 rows waiting
    names = [call.name for call in cuda.calls()]
    assert names.count("cudaEventRecord") == names.count("cudaStreamWaitEvent") == 2  # in each of the two streams
    # Without a stream the first two of these calls are replaced by a wait, which fails.
    index = names.index("cudaEventRecord", names.index("cudaEventRecord") + 1) - 2
    with cuda.failing(index + 1), pytest.raises(RuntimeError, match="cudaStreamSynchronize"):
        both[1].update(float16)
    cuda.clear_calls()
    both[1].update(rest, stream)
    names = [call.name for call in cuda.calls()]
    assert "cublasDsyrk_v2" in names
    assert not any("rank_update" in name for name in names)
    cuda.reset()
