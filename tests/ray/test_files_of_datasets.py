"""Files that Ray reads: the moments of their features and images are those of the same rows in one process."""

import importlib.util
import io
import subprocess
import sys
import tarfile
import textwrap

import numpy as np
import pytest
from images_of_ray import N, Pixels, images_of, png
from rows_of_ray import DIM, features_of, require_equal, require_frames

import fidfast.torch as ft

pytestmark = pytest.mark.usefixtures("cluster")

#: Writes a TFRecord file with the functions of TensorFlow, which is not loaded into the process of the tests.
WRITE_TFRECORD = """
    import sys
    import numpy as np
    import tensorflow as tf

    def feature(value):
        if isinstance(value, np.ndarray):
            return tf.train.Feature(float_list=tf.train.FloatList(value=value))
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    columns = np.load(sys.argv[1], allow_pickle=True).item()
    with tf.io.TFRecordWriter(sys.argv[2]) as writer:
        for row in zip(*columns.values()):
            features = tf.train.Features(feature=dict(zip(columns, map(feature, row))))
            writer.write(tf.train.Example(features=features).SerializeToString())
"""


def write_tfrecord(folder, columns):
    """A TFRecord file with lists of floats, bytes and integers."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("ray.data.read_tfrecords needs TensorFlow: pip install tensorflow-cpu")
    np.save(folder / "columns.npy", columns)
    arguments = [sys.executable, "-c", textwrap.dedent(WRITE_TFRECORD), "columns.npy", "rows.tfrecords"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(folder / "rows.tfrecords")


def write_shard(folder, columns):
    """A tar file as WebDataset writes it: the files of a sample follow each other."""
    with tarfile.open(folder / "shard.tar", "w") as shard:
        for number, row in enumerate(zip(*columns.values(), strict=True)):
            for name, content in zip(columns, row, strict=True):
                member = tarfile.TarInfo(f"{number:03}.{name}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return str(folder / "shard.tar")


def write_files(folder, contents):
    for number, content in enumerate(contents):
        (folder / f"{number:03}.png").write_bytes(content)
    return str(folder)


def write_parquet(folder, column):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"image": column, "label": [number % 2 for number in range(N)]})
    pyarrow.parquet.write_table(table, folder / "images.parquet")
    return str(folder / "images.parquet")


# Images -------------------------------------------------------------------------------------------------------------


def decoded_shard(images, folder):
    require_frames()
    import ray.data

    labels = [str(number % 2).encode() for number in range(N)]
    shard = write_shard(folder, {"png": map(png, images), "cls": labels})
    return ray.data.read_webdataset(shard), {"column": "png", "label_column": "cls"}


def shard_of_bytes(images, folder):
    require_frames()
    import ray.data

    shard = write_shard(folder, {"jpg": map(png, images)})
    return ray.data.read_webdataset(shard, decoder=None), {"column": "jpg"}


def parquet_of_bytes(images, folder):
    import ray.data

    return ray.data.read_parquet(write_parquet(folder, list(map(png, images)))), {"label_column": "label"}


def parquet_of_dictionaries(images, folder):
    """As the `datasets` package of Hugging Face stores images."""
    import ray.data

    items = [{"bytes": png(image), "path": f"{number}.png"} for number, image in enumerate(images)]
    return ray.data.read_parquet(write_parquet(folder, items)), {}


def decoded_files(images, folder):
    import ray.data

    return ray.data.read_images(write_files(folder, map(png, images))), {}


def binary_files(images, folder):
    import ray.data

    return ray.data.read_binary_files(write_files(folder, map(png, images))), {"column": "bytes"}


def tfrecord_of_images(images, folder):
    import ray.data

    labels = [number % 2 for number in range(N)]
    file = write_tfrecord(folder, {"image/encoded": list(map(png, images)), "image/class/label": labels})
    return ray.data.read_tfrecords(file), {"column": "image/encoded", "label_column": "image/class/label"}


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize(
    "source",
    [
        decoded_shard,
        shard_of_bytes,
        parquet_of_bytes,
        parquet_of_dictionaries,
        decoded_files,
        binary_files,
        tfrecord_of_images,
    ],
)
def test_images_of_files(source, rng, tmp_path):
    import fidfast.ray

    images = images_of(rng)
    dataset, options = source(images, tmp_path)
    found = fidfast.ray.moments(dataset, extractor=Pixels(), concurrency=1, **options)
    rows = ft.features_of_images(images, Pixels(), num_workers=0).features
    if "label_column" not in options:
        return require_equal(found, fidfast.Moments.from_features(rows))
    assert list(found) == [0, 1]
    for label in found:
        require_equal(found[label], fidfast.Moments.from_features(rows[label::2]))
    return None


# Features -----------------------------------------------------------------------------------------------------------


def shard_of_features(rows, folder):
    require_frames()
    import ray.data

    def npy(row):
        file = io.BytesIO()
        np.save(file, row)
        return file.getvalue()

    labels = [b"ab"[number % 2 :][:1] for number in range(len(rows))]
    shard = write_shard(folder, {"npy": map(npy, rows), "txt": labels})
    return ray.data.read_webdataset(shard), "npy", "txt"


def tfrecord_of_features(rows, folder):
    import ray.data

    labels = [b"ab"[number % 2 :][:1] for number in range(len(rows))]
    file = write_tfrecord(folder, {"features": list(rows), "label": labels})
    return ray.data.read_tfrecords(file), "features", "label"


@pytest.mark.parametrize("source", [shard_of_features, tfrecord_of_features])
def test_features_of_files(source, tmp_path):
    import fidfast.ray

    rows = features_of(np.arange(60)).astype(np.float32)
    dataset, column, label = source(rows, tmp_path)
    require_equal(fidfast.ray.moments(dataset, column), fidfast.Moments.from_features(rows))
    found = fidfast.ray.moments(dataset, column, label_column=label)
    assert list(found) == ["a", "b"]
    require_equal(found["b"], fidfast.Moments.from_features(rows[1::2]))


def test_arrays_of_files(tmp_path):
    import ray.data

    import fidfast.ray

    rows = features_of(np.arange(60))
    for number, part in enumerate(np.split(rows, [25])):
        np.save(tmp_path / f"{number}.npy", part)
    assert rows.shape == (60, DIM)
    require_equal(fidfast.ray.moments(ray.data.read_numpy(str(tmp_path)), "data"), fidfast.Moments.from_features(rows))
