"""The cache and checkpoints of moments of images never return those of other images."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_files import flat, png, write_files
from PIL import Image

import fidfast
import fidfast.torch as ft


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def extractor(during=lambda: None):
    """Means of the channels, cached as if it had been loaded by name; calls `during` for every batch."""

    def means(images):
        during()
        return images.mean(dim=(2, 3))

    return replace(ft.as_extractor(means, name="means"), reproducible=True)


def interrupt_at(number):
    """A function that raises KeyboardInterrupt at this call."""
    calls = []

    def interrupt():
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt

    return interrupt


def moments_of(source, **options):
    return ft.moments_of_images(source, extractor(), use_cache=True, num_workers=0, **options)


def images(shift):
    return {f"{i}.png": flat(30 * i + shift) for i in range(4)}


def with_old_times(path):
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(file, (0, 0))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "npy"])
def test_another_set_with_equal_names_sizes_and_times(tmp_path, kind):
    paths = []
    for name, shift in (("one", 10), ("two", 11)):
        if kind == "npy":
            paths.append(tmp_path / f"{name}.npy")
            np.save(paths[-1], np.full((4, 8, 8, 3), shift, np.uint8))
        else:
            paths.append(write_files(kind, tmp_path / name, images(shift)))
        with_old_times(paths[-1])
    one, two = (moments_of(path) for path in paths)
    assert not one.from_cache
    assert not two.from_cache
    difference = two.moments.stats().mu - one.moments.stats().mu
    np.testing.assert_allclose(difference * 255, 1, rtol=1e-4)  # float32 features
    # Replaced with the same times.
    for source in sorted(paths[1].iterdir()) if kind == "folder" else [paths[1]]:
        shutil.copy2(source, paths[0])
    again = moments_of(paths[0])
    assert again.from_cache
    assert again.moments == two.moments


def test_a_result_says_that_it_is_from_the_cache(tmp_path):
    folder = write_files("folder", tmp_path / "a", {**images(0), "x.gif": b"", "notes.txt": b""})
    first, second = moments_of(folder), moments_of(folder)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert str(second) == "4 images (0 skipped, 2 files not read), 3 features of means, from the cache"
    assert str(first) == str(second).removesuffix(", from the cache")
    for result in (first, second, ft.features_of_images(folder, extractor())):
        assert result.ignored == {".gif (x.gif)": 1, ".txt (notes.txt)": 1}
        assert result.to_dict()["ignored"] == result.ignored
    (entry,) = fidfast.image_cache().entries
    assert (entry.extractor, entry.num_images, entry.source) == ("means", 4, str(folder))


def test_options_that_change_the_images_change_the_key(tmp_path):
    path = write_files("tar", tmp_path / "a", {**images(0), **{f"{i}.mask.png": flat(i) for i in range(4)}})
    for options in ({}, {"suffix": "mask.png"}, {"suffix": "*"}, {"blocks": 2}, {"precision": "float32"}):
        assert not moments_of(path, **options).from_cache, options
        assert moments_of(path, **options).from_cache, options
    assert moments_of(path, suffix="*").moments.num_samples == 8


def test_files_keyed_by_times_are_never_used(tmp_path, cache_folder):
    """What the versions before this wrote: another key, and no name of the source."""
    folder = write_files("folder", tmp_path / "a", images(0))
    cache_folder.mkdir()
    ft.moments_of_images(np.zeros((4, 8, 8, 3), np.uint8), extractor()).moments.save(cache_folder / f"{'a' * 64}.npz")
    assert not moments_of(folder).from_cache
    assert [entry.source for entry in fidfast.image_cache().entries if entry.source is None] == [None]


def test_images_that_change_during_the_run_are_not_cached(tmp_path):
    folder = write_files("folder", tmp_path / "a", images(0))
    changed = []

    def change():
        if not changed:
            changed.append((folder / "3.png").write_bytes(flat(200)))

    ft.moments_of_images(folder, extractor(change), use_cache=True, num_workers=0, batch_size=1)
    assert changed
    assert fidfast.image_cache().entries == []


def test_moments_of_another_number_of_images_are_not_returned(tmp_path):
    folder = write_files("folder", tmp_path / "a", images(0))
    moments_of(folder)
    (entry,) = fidfast.image_cache().entries
    other = ft.moments_of_images(np.zeros((5, 8, 8, 3), np.uint8), extractor()).moments
    other.save(entry.file)
    assert not moments_of(folder).from_cache
    assert moments_of(folder).from_cache  # the file has been replaced


def test_a_checkpoint_is_compared_by_content(tmp_path):
    folder = write_files("folder", tmp_path / "a", images(0))
    options = {"checkpoint": tmp_path / "run.npz", "num_workers": 0, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(folder, extractor(interrupt_at(3)), **options)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    original = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(flat(200))
    for path, mtime in times.items():
        os.utime(path, ns=(mtime, mtime))
    with pytest.raises(ValueError, match=r"run\.npz belongs to another run \(other images"):
        ft.moments_of_images(folder, extractor(), **options)
    (folder / "3.png").write_bytes(original)  # with another time
    assert ft.moments_of_images(folder, extractor(), **options).moments.num_samples == 4


@pytest.mark.parametrize("kind", ["paths", "floats", "bfloat16"])
def test_a_checkpoint_of_paths_or_an_array_is_compared_by_content(tmp_path, kind):
    def source(shift):
        if kind == "paths":
            return sorted(write_files("folder", tmp_path / "a", images(shift)).iterdir())
        array = np.random.default_rng(shift).random((4, 3, 8, 8), dtype=np.float32)
        return array if kind == "floats" else torch.from_numpy(array).bfloat16()

    options = {"checkpoint": tmp_path / "run.npz", "num_workers": 0, "batch_size": 1}
    with pytest.raises(KeyboardInterrupt):
        ft.moments_of_images(source(0), extractor(interrupt_at(3)), **options)
    with pytest.raises(ValueError, match=r"run\.npz belongs to another run \(other images"):
        ft.moments_of_images(source(1), extractor(), **options)
    assert ft.moments_of_images(source(0), extractor(), **options).moments.num_samples == 4


def test_dark_wide_images_warn_also_from_the_cache(tmp_path, rng):
    wide = {f"{i}.png": png(rng.integers(0, 4096, (8, 8), dtype=np.uint16)) for i in range(3)}
    folder = write_files("folder", tmp_path / "a", wide)
    for from_cache in (False, True):
        with pytest.warns(UserWarning, match="pass max_value=4095"):
            assert moments_of(folder).from_cache is from_cache
    assert not moments_of(folder, max_value=4095).from_cache
    with pytest.warns(UserWarning, match="pass max_value=4095"):
        ft.features_of_images(folder, extractor())


def test_functions_that_return_numbers_warn_of_images_that_are_not_read(tmp_path):
    one = write_files("folder", tmp_path / "one", {**images(0), "x.jfif": flat(1), "notes.txt": b"", ".y.png": b""})
    two = write_files("folder", tmp_path / "two", images(5))
    with pytest.warns(UserWarning, match=r"^samples: not read: 1 \.jfif \(x\.jfif\)$"):
        ft.fid_of_images(one, two, extractor())
    with pytest.warns(UserWarning, match=r"^source: not read: 1 \.jfif"):
        ft.stats_of_images(one, extractor())
    ft.fid_of_images(two, two, extractor())  # warnings are errors here


@pytest.mark.parametrize("kind", ["PIL", "array", "file", "tensor"])
def test_the_value_of_white_applies_to_the_items_of_datasets(tmp_path, rng, kind):
    wide = rng.integers(0, 4096, (4, 8, 8), dtype=np.uint16)
    files = write_files("folder", tmp_path / "a", {f"{i}.png": png(image) for i, image in enumerate(wide)})
    items = {
        "PIL": list(map(Image.fromarray, wide)),
        "array": list(wide),
        "file": sorted(files.iterdir()),
        "tensor": list(torch.from_numpy(wide)),
    }[kind]
    expected = ft.features_of_images(files, extractor(), max_value=4095).features
    np.testing.assert_array_equal(ft.features_of_images(items, extractor(), max_value=4095).features, expected)
