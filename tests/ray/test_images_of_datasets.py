"""Features of images in Ray datasets are those of the same images in one process."""

import numpy as np
import pytest
from images_of_ray import N, Pixels, images_of, png

import fidfast.torch as ft


def extracted(table, **options):
    from fidfast.ray._extraction import _Extraction

    return _Extraction([Pixels()], None, "image", options)(table)


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


@pytest.fixture
def images(rng):
    return images_of(rng)


@pytest.fixture
def expected(images):
    return ft.features_of_images(images, Pixels(), num_workers=0)


def column_of_ray(items):
    pytest.importorskip("ray.data")
    from ray.data import block

    return block.BlockAccessor.for_block(block.BlockAccessor.batch_to_block({"image": items})).to_arrow()["image"]


KINDS = {
    "bytes": lambda images, pa, folder: pa.array(map(png, images)),
    "dictionaries": lambda images, pa, folder: pa.array([{"bytes": png(image), "path": None} for image in images]),
    "only bytes": lambda images, pa, folder: pa.array([{"bytes": png(image)} for image in images]),
    "paths": lambda images, pa, folder: pa.array([write(folder / f"{i}.png", x) for i, x in enumerate(images)]),
    "arrays of several shapes": lambda images, pa, folder: column_of_ray(list(images)),
    "nested lists": lambda images, pa, folder: pa.array(
        [image.tolist() for image in images], pa.list_(pa.list_(pa.list_(pa.uint8())))
    ),
}


def write(path, image):
    path.write_bytes(png(image))
    return str(path)


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_any_kind_have_the_same_features(kind, arrow, images, expected, tmp_path):
    pytest.importorskip("ray.data")
    from fidfast.ray._columns import features_of

    column = KINDS[kind](images, arrow, tmp_path)
    found = extracted(arrow.table({"image": column, "label": list(range(N))}))
    (rows,) = features_of(found, "fidfast features 0")
    assert np.array_equal(rows, expected.features)
    assert found["fidfast features 0 extractor"][0].as_py() == expected.extractor
    assert found["label"].to_pylist() == list(range(N))
    assert "image" not in found.column_names


def test_arrays_of_one_shape(arrow, rng):
    pytest.importorskip("ray.data")
    from fidfast.ray._columns import features_of

    images = np.stack(images_of(rng, (6, 7)))
    (rows,) = features_of(extracted(arrow.table({"image": column_of_ray(images)})), "fidfast features 0")
    assert np.array_equal(rows, ft.features_of_images(images, Pixels(), num_workers=0).features)


@pytest.mark.parametrize("name", ["a b.png", b"a b.png"])
def test_errors_have_the_name_of_the_image(name, arrow, images):
    pytest.importorskip("ray.data")
    from fidfast.ray._datasets import DatasetError

    table = arrow.table({"image": [png(images[0]), b"x"], "path": [name, name]})
    with pytest.raises(DatasetError, match=r"a b.png: not an image"):
        extracted(table)


def test_moments_of_images(cluster, images, expected):
    import ray.data

    import fidfast.ray

    items = [{"jpg": png(image), "__key__": f"sample {i}", "label": i % 2} for i, image in enumerate(images)]
    items[7]["jpg"] = b"not an image"
    dataset = ray.data.from_items(items)
    kept = np.arange(N) != 7
    options = {"column": "jpg", "extractor": Pixels(), "concurrency": 1}
    with pytest.warns(UserWarning, match=r"^dataset: skipped 1 of 40 images; the first: sample 7: not an image"):
        found = fidfast.ray.moments(dataset, label_column="label", skip_broken=True, **options)
    assert found.extractor == expected.extractor
    for label in (0, 1):
        same = fidfast.Moments.from_features(expected.features[kept & (np.arange(N) % 2 == label)])
        assert found[label].num_samples == same.num_samples
        np.testing.assert_allclose(found[label].stats().sigma, same.stats().sigma, rtol=1e-12)


@pytest.mark.slow
def test_metrics_of_images(cluster, images, expected, rng, tmp_path):
    import ray.data

    import fidfast.ray

    for i, image in enumerate(images):
        write(tmp_path / f"{i:03}.png", image)
    dataset = ray.data.read_images(str(tmp_path), include_paths=True)
    options = {"extractor": Pixels(), "concurrency": 1}
    other = images_of(rng)
    reference = ft.features_of_images(other, Pixels(), num_workers=0).features
    assert fidfast.ray.fid(dataset, other, **options) == pytest.approx(fidfast.fid(expected.features, reference))
    found = fidfast.ray.kid_subsets(dataset, reference, subsets=3, subset_size=20, **options)
    assert np.array_equal(
        found.values, fidfast.kid_subsets(expected.features, reference, subsets=3, subset_size=20).values
    )
    stats = ft.stats_of_images(other, Pixels(), num_workers=0)
    options = {"extractors": {"net": Pixels()}, "concurrency": 1}
    found = fidfast.ray.evaluate(dataset, stats, metrics="fid@net", **options)
    assert found["fid@net"] == pytest.approx(fidfast.fid(expected.features, reference))
    with pytest.raises(ValueError, match=r"^dataset: .*000.png: not an image"):
        fidfast.ray.moments(dataset.map(lambda row: {**row, "image": b"x"}), extractor=Pixels(), concurrency=1)
