"""Time of the moments of a Ray dataset with two workers, against one process with two threads on the same blocks."""

import numpy as np
import pytest

ROWS = 1_000_000
BLOCKS = 64
#: 2 GB of float32, in the object store.
DIM = 512


def blocks_of(rows: int, dim: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((dim, dim), dtype=np.float32) * np.logspace(0, -2, dim, dtype=np.float32)
    some = np.maximum(rng.standard_normal((rows // BLOCKS, dim), dtype=np.float32) @ mixing, 0)
    return [np.roll(some, number, axis=1) for number in range(BLOCKS)]


@pytest.fixture(scope="module")
def cluster():
    environment = pytest.MonkeyPatch()
    for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}.items():
        environment.setenv(name, value)
    ray = pytest.importorskip("ray", reason="needs ray[data]")
    with pytest.MonkeyPatch.context() as patch:  # Ray adds this folder to the path of the workers, before packages
        patch.chdir("/")
        ray.init("local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield ray
    ray.shutdown()
    environment.undo()


@pytest.fixture(scope="module")
def blocks(dim: int, request: pytest.FixtureRequest) -> list[np.ndarray]:
    """The features, fewer in a trial run without timings."""
    rows = 20_000 if request.config.getoption("benchmark_disable") else ROWS
    return blocks_of(rows, min(dim, DIM))


@pytest.mark.filterwarnings(r"ignore:::ray[.]")
@pytest.mark.benchmark(group="moments of a Ray dataset, 1,000,000 x 512")
@pytest.mark.parametrize("tool", ["fidfast", "one process"])
def test_moments_of_a_dataset(benchmark, tool, blocks, cluster):
    import ray.data

    import fidfast.ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_numpy(blocks).materialize()

    def moments():
        if tool == "fidfast":
            return fidfast.ray.moments(dataset, "data")
        found = fidfast.Moments(blocks[0].shape[1])
        for block in blocks:
            found.update(block)
        return found

    found = moments()  # starts the workers
    assert found.num_samples == sum(map(len, blocks))
    benchmark.pedantic(moments, rounds=3)
