"""Time of the moments of a Ray dataset with two workers, against one process with two threads on the same blocks.

Products are float32 in both, which leaves the least time to hide what Ray needs.
"""

import numpy as np
import pytest

BLOCKS = 64
#: Rows for each dim: 2 GB of float32, in the object store.
ROWS = {512: 1_000_000, 2048: 250_000}


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


@pytest.fixture(scope="module", params=ROWS)
def blocks(request: pytest.FixtureRequest) -> list[np.ndarray]:
    """The features, fewer in a trial run without timings."""
    rows = 20_000 if request.config.getoption("benchmark_disable") else ROWS[request.param]
    return blocks_of(rows, request.param)


@pytest.mark.filterwarnings(r"ignore:::ray[.]")
@pytest.mark.parametrize("tool", ["fidfast", "one process"])
def test_moments_of_a_dataset(benchmark, tool, blocks, cluster):
    import ray.data

    import fidfast.ray

    dim = blocks[0].shape[1]
    benchmark.group = f"moments of a Ray dataset, {ROWS[dim]:,} x {dim}"
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.from_numpy(blocks).materialize()

    def moments():
        if tool == "fidfast":
            return fidfast.ray.moments(dataset, "data", precision="float32")
        found = fidfast.Moments(dim)
        for block in blocks:
            found.update(block)
        return found

    found = moments()  # starts the workers
    assert found.num_samples == sum(map(len, blocks))
    benchmark.pedantic(moments, rounds=3)
