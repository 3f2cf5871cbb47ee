"""Moments of Ray datasets: those of one process, however the rows are stored and whatever is lost on the way."""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from rows_of_ray import (
    DIM,
    ROWS,
    WORKER,
    dataset_of,
    features_of,
    require_equal,
    require_frames,
    wait_until,
    with_features,
)

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture(scope="module")
def rows():
    return features_of(np.arange(ROWS))


@pytest.fixture
def small_parts(monkeypatch):
    """Many parts of few rows, so that the tree has three levels."""
    monkeypatch.setattr("fidfast.ray._datasets.ROWS_PER_PART", ROWS // 100)


# Sources ------------------------------------------------------------------------------------------------------------


def parquet(rows, folder):
    import pyarrow as pa
    import pyarrow.parquet
    import ray.data

    for number, part in enumerate(np.array_split(rows, 3)):
        table = pa.table({"features": part.tolist(), "other": np.arange(len(part))})
        pa.parquet.write_table(table, folder / f"{number}.parquet")
    return ray.data.read_parquet(str(folder))


def fixed_lists(rows, folder):
    import pyarrow as pa
    import ray.data

    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIM)
    return ray.data.from_arrow([pa.table({"features": column.slice(0, 9)}), pa.table({"features": column.slice(9)})])


def tensors(rows, folder):
    import ray.data

    return ray.data.from_items([{"features": row} for row in rows])


def tensors_of_arrow(rows, folder):
    import pyarrow as pa
    import ray.data

    return ray.data.from_arrow(pa.table({"features": pa.FixedShapeTensorArray.from_numpy_ndarray(rows)}))


def frames(rows, folder):
    require_frames()
    import pandas as pd
    import ray.data

    return ray.data.from_pandas([pd.DataFrame({"features": list(part)}) for part in np.array_split(rows, 2)])


def one_by_one(rows, folder):
    """Ray's tensors of variable shape."""
    import ray.data

    return ray.data.from_items([{"features": row[:, None, None]} for row in rows])


@pytest.mark.grid(keep=3)
@pytest.mark.parametrize("source", [parquet, fixed_lists, tensors, tensors_of_arrow, frames, one_by_one])
def test_any_column_of_numbers_gives_the_moments_of_its_rows(source, rows, tmp_path):
    import fidfast.ray

    rows = rows[:500]
    require_equal(fidfast.ray.moments(source(rows, tmp_path)), fidfast.Moments.from_features(rows))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_narrow_features_keep_their_type(rows, dtype):
    import ray.data

    import fidfast.ray

    rows = rows[:300].astype(dtype)
    found = fidfast.ray.moments(ray.data.from_numpy(rows), "data")
    require_equal(found, fidfast.Moments.from_features(rows))
    assert len(found.state()["0/narrow_rows"]) == 300


def test_products_of_float32_features_are_float64(rng, small_parts):
    import ray.data

    import fidfast.ray

    rows = (rng.standard_normal((3000, 600)) @ rng.standard_normal((600, 600))).astype(np.float32)
    found = fidfast.ray.moments(ray.data.from_numpy(np.array_split(rows, 7)), "data")
    require_equal(found, fidfast.Moments.from_features(rows, precision="float64"))


def test_precision_and_blocks(rows):
    import fidfast.ray

    found = fidfast.ray.moments(dataset_of(), precision="float32", blocks=7)
    assert found.precision == "float32"
    assert len(found.blocks) == 7
    assert all(abs(block.num_samples - ROWS / 7) <= 1 for block in found.blocks)
    require_equal(found, fidfast.Moments.from_features(rows))


def test_moments_of_each_class(rows, small_parts):
    import fidfast.ray

    found = fidfast.ray.moments(dataset_of(), label_column="label")
    assert list(found) == [0, 1, 2]
    for label in found:
        require_equal(found[label], fidfast.Moments.from_features(rows[label::3]))


@pytest.mark.parametrize("labels", [["a", "ö"], [b"a", "ö".encode()]])
def test_labels_may_be_strings_or_their_bytes(rows, labels):
    import ray.data

    import fidfast.ray

    items = [{"features": row, "label": labels[number % 2]} for number, row in enumerate(rows[:50])]
    found = fidfast.ray.moments(ray.data.from_items(items), label_column="label")
    assert list(found) == ["a", "ö"]
    require_equal(found["ö"], fidfast.Moments.from_features(rows[1:50:2]))


def test_bytes_that_are_no_string_are_no_label(rows):
    import ray.data

    import fidfast.ray

    dataset = ray.data.from_items([{"features": row, "label": b"\xff"} for row in rows[:5]])
    with pytest.raises(ValueError, match=r"^dataset: column 'label' must hold integers or strings, got bytes that are"):
        fidfast.ray.moments(dataset, label_column="label")


# Losses -------------------------------------------------------------------------------------------------------------


def test_many_parts(rows, small_parts):
    import fidfast.ray

    require_equal(fidfast.ray.moments(dataset_of(blocks=40)), fidfast.Moments.from_features(rows))


def test_a_part_that_is_counted_twice_is_an_error(rows):
    import ray

    import fidfast
    from fidfast.ray._tree import Merged, block_of_part, merged_blocks

    moments = fidfast.Moments.from_features(rows[:10])
    one, two = (ray.put(block_of_part(Merged({"features": moments}, 10, [name], []))) for name in "ab")
    found = merged_blocks(iter([one, two]))
    assert (found.num_rows, found.parts, found.moments["features"].num_samples) == (20, ["a", "b"], 20)
    with pytest.raises(RuntimeError, match=r"^1 parts of the dataset were counted twice"):
        merged_blocks(iter([one, two, one]))


def test_a_node_that_is_lost_changes_nothing(lose, rows, small_parts, tmp_path):
    """The first worker that starts a third task is lost: with the results of two tasks, and while the third runs."""
    import ray.data

    import fidfast.ray

    chosen, is_lost = tmp_path / "chosen", tmp_path / "is lost"

    def started_on(node):
        return set(os.listdir(tmp_path / "started" / node))

    def features_on_worker(batch):
        node = ray.get_runtime_context().get_node_id()
        started = tmp_path / "started" / node / str(batch["id"][0])
        started.parent.mkdir(parents=True, exist_ok=True)
        started.touch()
        if len(started_on(node)) == 3:
            with contextlib.suppress(FileExistsError):
                os.symlink(node, chosen)  # its target is read instead of a file, since it is complete at once
        if chosen.is_symlink():  # this task does not end before the loss, and never on the node that is lost
            wait_until(lambda: is_lost.exists() and os.readlink(chosen) != node)
        return with_features(batch)

    dataset = ray.data.range(ROWS, override_num_blocks=40)
    dataset = dataset.map_batches(features_on_worker, batch_size=None, resources={WORKER: 1})
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(fidfast.ray.moments, dataset)
        wait_until(lambda: chosen.is_symlink() or (run.done() and run.result()))
        lose(os.readlink(chosen))
        is_lost.touch()
        found = run.result()
    require_equal(found, fidfast.Moments.from_features(rows))
    lost = os.readlink(chosen)
    (other,) = set(os.listdir(tmp_path / "started")) - {lost}
    assert len(started_on(lost)) == 3
    assert started_on(lost) & started_on(other)  # at least the third task was repeated


def test_a_process_that_dies_changes_nothing(rows, small_parts, tmp_path):
    import ray.data

    import fidfast.ray

    def dies_once(batch):
        if 20_000 in batch["id"] and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os._exit(1)
        return with_features(batch)

    dataset = ray.data.range(ROWS, override_num_blocks=20).map_batches(dies_once, batch_size=None)
    require_equal(fidfast.ray.moments(dataset), fidfast.Moments.from_features(rows))
    assert (tmp_path / "died").exists()


def test_rows_that_ray_drops_are_named(context, small_parts):
    import ray.data

    import fidfast.ray

    def fails(batch):
        if 20_000 in batch["id"]:
            raise RuntimeError("a fault of the user's function")
        return with_features(batch)

    context.max_errored_blocks = 1
    dataset = ray.data.range(ROWS, override_num_blocks=20).map_batches(fails, batch_size=None)
    with pytest.raises(
        ValueError, match=r"^dataset: 3[0-9],\d+ of 40,000 rows .* max_errored_blocks=1 .*RuntimeError: a fault"
    ):
        fidfast.ray.moments(dataset)
    require_equal(fidfast.ray.moments(dataset_of(400)), fidfast.Moments.from_features(features_of(np.arange(400))))


# Errors -------------------------------------------------------------------------------------------------------------


def broken(change):
    return dataset_of(400).map_batches(change, batch_size=None)


@pytest.mark.grid(keep=4)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: {"other": batch["features"]}, "dataset: there is no column 'features'; the columns are 'other'"),
        (lambda batch: {"features": batch["features"] * np.nan}, "dataset: features hold NaN or infinity; the first"),
        (lambda batch: {"features": batch["label"]}, "dataset: column 'features' must hold lists or tensors"),
        (lambda batch: {"features": batch["features"] > 0}, "dataset: column 'features' must hold the floating-point"),
        (lambda batch: {"features": [[0.0], [0.0, 1.0]]}, "dataset: column 'features' must have equally many numbers"),
        (lambda batch: {"features": [None, [0.0]]}, "dataset: column 'features' is missing in 1 of 2 rows"),
        (lambda batch: {"features": np.empty((0, 4))}, "dataset: the dataset has no rows"),
    ],
)
def test_errors_name_the_column(change, message):
    import fidfast.ray

    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        fidfast.ray.moments(broken(change))


def test_errors_of_the_arguments():
    import fidfast.ray

    dataset = dataset_of(400)
    with pytest.raises(TypeError, match=r"^dataset must be a ray.data.Dataset, got ndarray"):
        fidfast.ray.moments(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"^blocks must be 1 with label_column"):
        fidfast.ray.moments(dataset, label_column="label", blocks=2)
    with pytest.raises(TypeError, match=r"^num_gpus is an option of images: pass extractor="):
        fidfast.ray.moments(dataset, num_gpus=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'batchsize'; its options are batch_size, "):
        fidfast.ray.moments(dataset, batchsize=3)
    with pytest.raises(ValueError, match=r"^concurrency\[1\] must be at least 2, got 1"):
        fidfast.ray.moments(dataset, extractor="x", concurrency=(2, 1))
