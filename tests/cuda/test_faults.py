"""A failure of every single call to CUDA and its libraries: an error, no leak, nothing changed, and then it works."""

import copy

import numpy as np
import pytest
from device_arrays import DeviceArray
from faults import fail_each_call

from fidfast import Moments, _core, devices

pytestmark = pytest.mark.usefixtures("extension")


def same(numbers, expected):
    """Sums in another order, as in the laws."""
    return np.allclose(numbers, expected, rtol=1e-12, atol=1e-12)


def moments_of(*batches):
    moments = Moments(3, "float64", device="cuda:0")
    for batch in batches:
        moments.update(DeviceArray(batch))
    return moments


def bits(moments):
    """All that they are, to be compared without a kernel."""
    (state,) = (block.state() for block in moments._blocks)
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in state.values()]


def moments_with(rng, folded, waiting):
    """`folded` rows as mean and scatter, that nobody has to fold, and rows that wait."""
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
    host = Moments._of_blocks([_core.Moments.from_state(state)], None)
    return Moments._of_blocks([devices.moved(host._blocks[0], 0)], None), host


# Moments ------------------------------------------------------------------------------------------------------------


def test_making_moments(cuda):
    names = fail_each_call(
        cuda,
        lambda: (),
        lambda: Moments(3, device="cuda:0"),
        lambda made: made == Moments(3, device="cuda:0"),
    )
    assert names.count("cudaMalloc") > 15
    assert "cudaHostAlloc" in names


#: Rows before and rows of the batch, and whether the former are kept until then.
UPDATES = {
    "rows are kept": (1, 2),
    "kept rows become waiting ones": (3, 4),
    "rows wait": (40, 5),
    "a block folds": (1020, 10),
    "a block folds, and it is the first": (0, 1024),
    "a block folds, and it is the second": (2040, 10),
    "several blocks": (1020, 1030),
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", UPDATES)
def test_updates(rng, cuda, streams, size, known):
    first, n = UPDATES[size]
    rows = rng.standard_normal((first + n, 3))
    stream = streams()
    batch = DeviceArray(rows[first:], stream=stream)
    start = moments_of(rows[:first])
    before, after = bits(start), bits(moments_of(*([rows[:first]] if first else []), rows[first:]))
    names = fail_each_call(
        cuda,
        lambda: (copy.copy(start),),
        lambda moments: moments.update(batch, stream=stream if known else None),
        lambda _, moments: bits(moments) == after,
        lambda moments: bits(moments) == before,
    )
    if known:
        assert names[-2:] == ["cudaEventRecord", "cudaStreamWaitEvent"]
        assert "cudaStreamSynchronize" not in names
    else:
        assert names[-1] == "cudaStreamSynchronize"
    assert ("cublasDsyrk_v2" in names) == ("block" in size)


def test_updates_from_the_host(rng, cuda):
    rows = rng.standard_normal((9, 3))
    start = moments_of(rows[:4])
    before, after = bits(start), bits(moments_of(rows[:4], rows[4:]))
    fail_each_call(
        cuda,
        lambda: (copy.copy(start),),
        lambda moments: moments.update(rows[4:]),
        lambda _, moments: bits(moments) == after,
        lambda moments: bits(moments) == before,
    )


#: Rows folded and waiting of one side and of the other.
MERGES = {
    "kept": ((0, 1), (0, 2)),
    "waiting": ((0, 2), (0, 2)),
    "folded with waiting": ((1030, 1), (0, 2)),
    "both folded": ((1030, 0), (1100, 1)),
}


@pytest.mark.parametrize("size", MERGES)
def test_merge_and_unmerge(rng, cuda, size):
    (ours, _), (theirs, _) = (moments_with(rng, *rows) for rows in MERGES[size])
    whole = ours + theirs
    before, after, other = bits(ours), bits(whole), bits(theirs)
    fail_each_call(
        cuda,
        lambda: (copy.copy(ours),),
        lambda moments: moments.merge(theirs),
        lambda _, moments: [bits(moments), bits(theirs)] == [after, other],
        lambda moments: [bits(moments), bits(theirs)] == [before, other],
    )
    rest = copy.copy(whole)
    rest.unmerge(theirs)
    expected = bits(rest)
    fail_each_call(
        cuda,
        lambda: (copy.copy(whole),),
        lambda moments: moments.unmerge(theirs),
        lambda _, moments: [bits(moments), bits(theirs)] == [expected, other],
        lambda moments: [bits(moments), bits(theirs)] == [after, other],
    )


READERS = {
    "stats": lambda moments, kept: moments.stats(),
    "copy": lambda moments, kept: copy.copy(moments),
    "state": lambda moments, kept: moments.__reduce__()[1][0][0],
    "==": lambda moments, kept: moments == kept,
}


@pytest.mark.parametrize("rows", [(0, 2), (0, 5), (1030, 2)], ids=["kept", "waiting", "folded with waiting"])
@pytest.mark.parametrize("reader", READERS)
def test_reading(rng, cuda, rows, reader):
    moments, host = moments_with(rng, *rows)
    kept, before, sigma = copy.copy(moments), bits(moments), host.stats().sigma
    right = {
        "stats": lambda stats: same(stats.sigma, sigma),
        "copy": lambda other: bits(other) == before,
        "state": lambda state: state["count"] == rows[0] and len(state["wide_rows"]) == rows[1],
        "==": lambda equal: equal,
    }[reader]
    fail_each_call(cuda, lambda: (), lambda: READERS[reader](moments, kept), right, lambda: bits(moments) == before)


@pytest.mark.parametrize("rows", [(0, 2), (1030, 1)], ids=["kept", "folded with waiting"])
def test_reset(rng, cuda, rows):
    start = moments_with(rng, *rows)[0]
    before, nothing = bits(start), bits(Moments(3, "float64", device="cuda:0"))
    fail_each_call(
        cuda,
        lambda: (copy.copy(start),),
        lambda moments: moments.reset(),
        lambda _, moments: bits(moments) == nothing,
        lambda moments: bits(moments) == before,
    )


@pytest.mark.parametrize("rows", [(0, 2), (1030, 1)], ids=["kept", "folded with waiting"])
def test_a_batch_that_is_not_finite(rng, cuda, streams, rows):
    """Found while calls fail: the rows before it are still there, whether it is told or forgotten."""
    start = moments_with(rng, *rows)[0]
    before, nothing = bits(start), bits(Moments(3, "float64", device="cuda:0"))
    stream = streams()
    bad, good = (DeviceArray(values, stream=stream) for values in (np.full((5, 3), np.inf), np.ones((5, 3))))

    def make():
        moments = copy.copy(start)
        moments.update(bad, stream=stream)
        moments.update(good, stream=stream)
        cuda.synchronize()
        return (moments,)

    def rows_before(moments):
        """Once told of, or at once where it was told before."""
        try:
            assert bits(moments) == before
        except ValueError as told:
            assert "the first such row is 0 of an earlier batch; that batch and all later ones (1)" in str(told)  # noqa: PT017
        return bits(moments) == before

    fail_each_call(cuda, make, Moments.reset, lambda _, moments: bits(moments) == nothing, rows_before)

    def read(moments):
        with pytest.raises(
            ValueError, match=r"the first such row is 0 of an earlier batch; that batch and all later ones \(1\)"
        ):
            moments.stats()

    fail_each_call(
        cuda,
        make,
        read,
        lambda _, moments: bits(moments) == before,
        lambda moments: moments.num_samples - sum(rows) in (0, 10),
    )


def test_rows_of_float32_are_not_taken_for_rows_of_16_bits_after_a_failure(cuda, extension, streams):
    """GPUs that are slow in float64 multiply the latter otherwise. Nothing runs here, so that no array is written."""
    stream = streams(1)
    wide, halves, rest = (
        DeviceArray((n, 512), dtype, device=1, stream=stream)
        for n, dtype in ((1000, np.float32), (30, np.float16), (24, np.float16))
    )
    both = [extension.Moments(512, "float32", 1) for _ in range(2)]
    for moments in both:
        moments.update(wide, stream)
    cuda.clear_calls()
    both[0].update(halves, stream)  # folds a block, and leaves a few rows of 16 bits waiting
    names = [call.name for call in cuda.calls()]
    assert names.count("cudaEventRecord") == names.count("cudaStreamWaitEvent") == 2  # in each of the two streams
    place = names.index("cudaEventRecord", names.index("cudaEventRecord") + 1) - 2  # where the first two are not called
    with cuda.failing(place + 1), pytest.raises(RuntimeError, match="cudaStreamSynchronize"):
        both[1].update(halves)  # waits instead
    cuda.clear_calls()
    both[1].update(rest, stream)
    names = [call.name for call in cuda.calls()]
    assert "cublasDsyrk_v2" in names
    assert not any("rank_update" in name for name in names)
    cuda.reset()
