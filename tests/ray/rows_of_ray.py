"""Datasets of seeded features, in a module that Ray's workers can import."""

import time

import numpy as np
import pytest

DIM = 4
ROWS = 40_000

#: Object store of each node: above Ray's minimum, and small enough for a container.
STORE = 100 * 2**20

#: Resource of the two nodes that may be lost: of each, one, so that its tasks run one after another.
WORKER = "worker"

#: Seconds after which a test that waits has failed. No result depends on it.
LIMIT = 300

#: Sums in another order: 1e-12 of the spread, as `Moments` promise for float64.
TOLERANCE = 1e-12


def features_of(numbers):
    """Features (n, DIM) of the rows with these numbers, of which each row is different."""
    return np.sin(np.multiply.outer(np.asarray(numbers, float) + 1, np.sqrt([2, 3, 5, 7])))


def with_features(batch):
    return {"features": features_of(batch["id"]), "label": batch["id"] % 3}


def require_frames():
    """Skip the test if Ray does not read data frames of the installed pandas."""
    import pandas
    import ray

    if int(pandas.__version__.split(".")[0]) > 2 and int(ray.__version__.split(".")[1]) < 60:
        pytest.skip("this Ray does not read data frames of pandas 3")


def dataset_of(rows=ROWS, blocks=20):
    import ray.data

    return ray.data.range(rows, override_num_blocks=blocks).map_batches(with_features, batch_size=None)


def require_equal(found, expected):
    """Require equal moments, up to the rounding of sums in another order."""
    assert found.num_samples == expected.num_samples
    one, two = found.stats(), expected.stats()
    scale = np.abs(two.sigma).max()
    np.testing.assert_allclose(one.mu, two.mu, rtol=0, atol=TOLERANCE * np.sqrt(scale))
    np.testing.assert_allclose(one.sigma, two.sigma, rtol=0, atol=TOLERANCE * scale)


def wait_until(condition):
    """Wait until ``condition()`` is true."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
