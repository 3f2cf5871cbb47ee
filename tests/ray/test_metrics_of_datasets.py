"""Metrics of Ray datasets are those of the same rows in one process."""

import time
import uuid

import numpy as np
import pytest
from rows_of_ray import dataset_of, features_of, with_features

pytestmark = pytest.mark.usefixtures("cluster")

N = 2000


@pytest.fixture(scope="module")
def samples():
    return features_of(np.arange(N))


@pytest.fixture(scope="module")
def reference(rng_of_module):
    return features_of(np.arange(N)) ** 3 + 0.1 * rng_of_module.standard_normal((N, 4))


@pytest.fixture(scope="module")
def rng_of_module():
    return np.random.default_rng(5)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("fidfast.ray._datasets.ROWS_PER_PART", 150)
    monkeypatch.setattr("fidfast.ray._estimates.ROWS_PER_PART", 150)


@pytest.fixture(scope="module")
def dataset():
    return dataset_of(N, blocks=7)


@pytest.fixture(scope="module")
def dataset_of_reference(reference):
    import ray.data

    return ray.data.from_numpy(np.array_split(reference, 3)).rename_columns({"data": "features"})


def test_fid(dataset, samples, reference, dataset_of_reference, small_parts, tmp_path):
    import fidfast.ray

    expected = fidfast.fid(samples, reference)
    tolerance = 1e-12 * (samples.var(0).sum() + reference.var(0).sum())  # of the traces, as the moments
    statistics = fidfast.Moments.from_features(reference).stats()
    statistics.save(tmp_path / "reference.npz")
    for other in (dataset_of_reference, reference, statistics, tmp_path / "reference.npz"):
        assert abs(fidfast.ray.fid(dataset, other) - expected) <= tolerance
        assert abs(fidfast.ray.fid(other, dataset) - expected) <= tolerance


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize("unit", [1.0, 2.0**60])
def test_estimate(dataset, samples, reference, dataset_of_reference, small_parts, unit):
    import fidfast.ray

    def scaled(rows):
        return rows.map_batches(lambda batch: {"features": unit * batch["features"]}, batch_size=None)

    expected = fidfast.estimate(unit * samples, unit * reference)
    found = fidfast.ray.estimate(scaled(dataset), scaled(dataset_of_reference))
    assert (found.num_samples, found.shared_rows) == (expected.num_samples, expected.shared_rows)
    # Each is within its rounding bound of the exact distance, whatever the order of the merges. The bias is N times a
    # mean of differences from distances without a row, which have the same bound: 1e-5 of the bias.
    assert abs(found.value - expected.value) <= 2 * expected.rounding
    assert abs(found.bias - expected.bias) <= 2 * N * expected.rounding <= 1e-4 * expected.bias
    assert abs(found.stderr / expected.stderr - 1) <= 1e-6
    assert abs(found.degrees_of_freedom / expected.degrees_of_freedom - 1) <= 1e-6
    exact = fidfast.Moments.from_features(unit * reference).stats()
    one_sided, expected = fidfast.ray.estimate(scaled(dataset), exact), fidfast.estimate(unit * samples, exact)
    assert one_sided.num_samples == (N, None)
    assert abs(one_sided.stderr / expected.stderr - 1) <= 1e-6


def test_rows_of_both_sides_are_found(dataset, samples, reference, small_parts, monkeypatch):
    import fidfast.ray

    half = np.concatenate([samples[::2], reference[::2]]).astype(np.float32)
    mixed = np.concatenate([samples[::2].astype(np.float32), reference[::2]])
    narrow = dataset.map_batches(lambda batch: {"features": batch["features"].astype("f4")}, batch_size=None)
    expected = fidfast.estimate(samples.astype(np.float32), half)
    found = fidfast.ray.estimate(narrow, mixed)  # float64 of the same numbers
    assert (found.note, found.shared_rows) == (expected.note, N // 2)
    monkeypatch.setattr("fidfast.ray._estimates._MOST_KEYS", N // 8)
    found = fidfast.ray.estimate(narrow, mixed)
    # One in 8 of 1,000 shared rows: 125 with a standard deviation of 10.5; 5 of these.
    assert abs(found.shared_rows / 8 - 125) < 53
    assert "independent" in found.note


def test_estimate_needs_the_same_rows_twice(small_parts, tmp_path):
    import fidfast.ray

    def fewer_later(batch):
        name = tmp_path / str(batch["label"][0] + 10 * len(batch["label"]))
        if name.exists():
            return {"features": batch["features"][:-1]}
        name.touch()
        return batch

    dataset = dataset_of(300, blocks=1).map_batches(fewer_later, batch_size=None)
    with pytest.raises(
        ValueError, match=r"^samples: the dataset had 300 rows in the first pass, but 299 in the second"
    ):
        fidfast.ray.estimate(dataset, features_of(np.arange(300)) ** 2)


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize("like", ["torch-fidelity", "torchmetrics", "clean-fid"])
def test_kid_of_subsets(dataset, samples, reference, dataset_of_reference, like):
    import fidfast.ray

    options = {"subsets": 5, "subset_size": 100, "like": like}
    expected = fidfast.kid_subsets(samples, reference, **options)
    for other in (dataset_of_reference, reference):
        found = fidfast.ray.kid_subsets(dataset, other, **options)
        assert np.array_equal(found.values, expected.values)
        assert (found.subset_size, found.seed, found.like) == (expected.subset_size, expected.seed, like)


@pytest.mark.slow
def test_rows_keep_their_order_whichever_task_ends_first(samples, reference, tmp_path):
    """The task of the first rows ends after the others, each time that the dataset is read.

    Tasks without a CPU may all run at the same time, but Ray need not start them before the first has ended. So the
    first does not wait for long; in any case the result must be the same.
    """
    import ray.data

    import fidfast.ray

    def first_ends_last(batch):
        first = batch["id"][0] == 0
        (tmp_path / f"{'first' if first else 'other'} {uuid.uuid4()}").touch()
        for _ in range(100 if first else 0):
            if len(list(tmp_path.glob("other *"))) >= 5 * len(list(tmp_path.glob("first *"))):
                break
            time.sleep(0.02)
        return with_features(batch)

    dataset = ray.data.range(N, override_num_blocks=6).map_batches(first_ends_last, batch_size=None, num_cpus=0)
    found = fidfast.ray.kid_subsets(dataset, reference, subsets=3, subset_size=200)
    assert np.array_equal(found.values, fidfast.kid_subsets(samples, reference, subsets=3, subset_size=200).values)


def test_subsets_must_fit(dataset, reference):
    import fidfast.ray

    with pytest.raises(ValueError, match=r"^subset_size must be at most 2000, the number of rows of samples, got 2001"):
        fidfast.ray.kid_subsets(dataset, reference, subset_size=2001)


def test_evaluate_of_features(dataset, samples, reference, dataset_of_reference):
    import fidfast.ray
    import fidfast.torch

    found = fidfast.ray.evaluate(dataset, dataset_of_reference, metrics="fid,kid,precision")
    expected = fidfast.torch.evaluate(samples, reference, metrics="fid,kid,precision")
    assert found.values == expected.values  # from the same rows in the same order
    found = fidfast.ray.evaluate(dataset, reference, metrics="fid", estimate=True)
    # Half a standard error: the standard error is that of 40 blocks.
    assert abs(found["fid"] - fidfast.estimate(samples, reference).unbiased) <= found.stderr["fid"] / 2
