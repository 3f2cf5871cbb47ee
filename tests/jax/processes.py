"""Laws of `fidfast.jax.all_reduce` in one process of several. Arguments: PROCESS PROCESSES PORT."""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

import fidfast.jax

process, size, port = map(int, sys.argv[1:])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", size, process)
assert (jax.process_count(), jax.process_index()) == (size, process)
rng = np.random.default_rng(0)


def same_everywhere(moments):
    """Whether all processes have the same bits."""
    sums = np.frombuffer(fidfast.jax.to_array(moments).tobytes(), np.uint32).astype(np.uint64)
    total = np.array(
        [sums.sum() % 2**31, (sums * np.arange(len(sums), dtype=np.uint64) % 65521).sum() % 2**31], np.int32
    )
    return len(np.unique(multihost_utils.process_allgather(total).reshape(size, 2), axis=0)) == 1


for dim, n, dtype in ((5, 3000, np.float64), (5, 4 * size, np.float64), (40, 1700, np.float32)):
    for blocks in (1, 3):
        rows = (rng.standard_normal((n, dim)) * np.logspace(0, -3, dim) + 100).astype(dtype)
        # The last process has no rows.
        bounds = [n * k // max(size - 1, 1) for k in range(size)] + [n]
        mine = rows[bounds[process] : bounds[process + 1]]
        moments = fidfast.Moments(dim, blocks=blocks, extractor="net" if process == 0 else None)
        moments.update(jax.numpy.asarray(mine) if dtype == np.float32 and len(mine) else mine)
        fidfast.jax.all_reduce(moments)
        assert moments.num_samples == n, moments
        assert moments.extractor == "net", moments
        assert same_everywhere(moments)
        found, expected = moments.stats(), fidfast.Moments.from_features(rows).stats()
        # Both are exact up to 1e-12 of the deviations, as the docstring says.
        deviations = np.sqrt(np.diag(expected.sigma))
        assert np.all(np.abs(found.sigma - expected.sigma) <= 1e-12 * np.outer(deviations, deviations))
        assert np.all(np.abs(found.mu - expected.mu) <= 1e-12 * (deviations + np.abs(expected.mu)))

empty = fidfast.Moments(4)
fidfast.jax.all_reduce(empty)
assert empty.num_samples == 0

for other, message in (
    (fidfast.Moments(4 + (process == 1)), "the same dim, got 4 on process 0"),
    (fidfast.Moments(4, blocks=1 + (process == 1)), "the same number of blocks, got 1 on process 0"),
    (fidfast.Moments(4, precision="float64" if process == 1 else "float32"), "the same precision, got 'float32' on"),
    (fidfast.Moments(4, extractor=f"net {process == 1}"), "the same extractor, got net False on process 0"),
):
    other.update(rng.standard_normal((9, other.dim)))
    before = other.state()
    with pytest.raises(ValueError, match=message) as caught:
        fidfast.jax.all_reduce(other)
    assert "on process 1" in str(caught.value)
    assert all(np.array_equal(before[key], value) for key, value in other.state().items())
print("done")
