"""Images of every source and encoding have the pixels that other FID tools read."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fidfast._images import BrokenImageError, holds_images, open_images


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (5, 12, 17, 3), dtype=np.uint8)


def png(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def write_folder(folder, pixels):
    """The images under sorted names in two subfolders, with other files between them."""
    for i, image in enumerate(pixels):
        path = folder / ("b" if i > 2 else "a") / f"{i:03}.{'PNG' if i % 2 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (folder / "a" / "notes.txt").write_text("not an image")
    (folder / "c.png").mkdir()
    return folder


def write_zip(path, pixels):
    with zipfile.ZipFile(path, "w") as archive:
        for i in reversed(range(len(pixels))):
            archive.writestr(f"x/{i:03}.png", png(pixels[i]))
        archive.writestr("dataset.json", "{}")
        archive.writestr("__MACOSX/x/000.png", "not an image")
    return path


def write_tar(path, pixels):
    with tarfile.open(path, "w") as archive:
        for i, image in enumerate(pixels):
            for name, content in ((f"{i:06}.png", png(image)), (f"{i:06}.cls", b"3")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write(kind, folder, pixels):
    if kind == "folder":
        return write_folder(folder / "images", pixels)
    if kind in ("zip", "tar"):
        return {"zip": write_zip, "tar": write_tar}[kind](folder / f"images.{kind}", pixels)
    path = folder / f"images.{kind[:3]}"
    if kind == "npy":
        np.save(path, pixels)
    if kind == "npz":
        np.savez(path, arr_0=pixels, arr_1=np.arange(len(pixels)))  # ADM: samples and labels
    if kind == "npz, compressed":
        np.savez_compressed(path, images=pixels)
    return path


KINDS = ["folder", "zip", "tar", "npy", "npz", "npz, compressed"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_pixels(tmp_path, pixels, kind):
    path = write(kind, tmp_path, pixels)
    assert holds_images(path)
    images = open_images(path)
    assert len(images) == len(images.names) == 5
    np.testing.assert_array_equal(np.stack(list(images)), pixels)
    np.testing.assert_array_equal(images[-1], pixels[-1])
    np.testing.assert_array_equal(np.stack(images[1:3]), pixels[1:3])
    with pytest.raises(IndexError):
        images[5]
    other = pickle.loads(pickle.dumps(images))  # as for worker processes
    np.testing.assert_array_equal(other[3], pixels[3])
    assert other.fingerprint() == images.fingerprint()


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_uncompressed_npz_is_memory_mapped(tmp_path, pixels, order):
    np.savez(tmp_path / "a.npz", arr_0=np.asarray(pixels, order=order))
    images = open_images(tmp_path / "a.npz")
    assert isinstance(images._arrays[0], np.memmap)
    np.testing.assert_array_equal(np.stack(list(images)), pixels)


def test_arrays_of_every_layout(pixels):
    np.testing.assert_array_equal(open_images(np.moveaxis(pixels, 3, 1))[2], pixels[2])
    grey = pixels[..., 0]
    for array in (grey, grey[..., None], grey[:, None]):
        np.testing.assert_array_equal(open_images(array)[2], np.repeat(grey[2][..., None], 3, axis=2))
    with_alpha = np.concatenate([pixels, pixels[..., :1]], axis=3)
    np.testing.assert_array_equal(open_images(with_alpha)[2], pixels[2])


def test_each_process_opens_a_zip_once(tmp_path, pixels):
    images = open_images(write_zip(tmp_path / "a.zip", pixels))
    images[0]
    child = os.fork()
    if child == 0:
        same = all(np.array_equal(images[i], pixels[i]) for _ in range(20) for i in range(5))
        os._exit(0 if same else 1)
    for _ in range(20):
        for i in range(5):
            np.testing.assert_array_equal(images[i], pixels[i])
    assert os.waitpid(child, 0)[1] == 0


def encoded(image, fmt="PNG", **options):
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "P", "1", "RGB", "P with transparency"])
def test_modes_are_converted_as_pil_does(tmp_path, pixels, mode):
    image = Image.fromarray(pixels[0]).convert(mode.split()[0])
    options = {"transparency": b"\x00\x80" + b"\xff" * 254} if "transparency" in mode else {}
    (tmp_path / "a.tif" if mode == "CMYK" else tmp_path / "a.png").write_bytes(
        encoded(image, "TIFF" if mode == "CMYK" else "PNG", **options)
    )
    read = open_images(tmp_path)[0]
    assert (read.dtype, read.shape) == (np.uint8, (12, 17, 3))
    np.testing.assert_array_equal(read, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_to_8_bits(tmp_path, rng, ending):
    wide = rng.integers(0, 65536, (9, 8), dtype=np.uint16)
    wide[0, :3] = 0, 65535, 257
    Image.fromarray(wide).save(tmp_path / f"a.{ending}")
    read = open_images(tmp_path)[0]
    np.testing.assert_array_equal(read[..., 0], np.round(wide / 257))
    assert np.all(read == read[..., :1])


def test_exif_orientation_is_ignored(tmp_path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(pixels[0]).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(open_images(tmp_path)[0], pixels[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image, or an unsupported format"),
        (b"not an image", "not an image, or an unsupported format"),
        ("truncated", "truncated"),
        ("float", "floating point pixels are not supported without max_value"),
    ],
)
def test_the_error_names_the_broken_image(tmp_path, rng, content, reason):
    if content == "truncated":
        content = png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))[:5000]
    if content == "float":
        content = encoded(Image.fromarray(rng.random((4, 4), dtype=np.float32)), "TIFF")
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(BrokenImageError, match=f"^{tmp_path}/bad.png: .*{reason}"):
        open_images(tmp_path)[0]


def test_symbolic_links_are_followed_but_cycles_are_not(tmp_path, pixels):
    (tmp_path / "target").mkdir()
    for i, image in enumerate(pixels):
        (tmp_path / "target" / f"{i}.png").write_bytes(png(image))
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "target")
    (folder / "self").symlink_to(folder)
    (folder / "file.png").symlink_to(tmp_path / "target" / "0.png")
    (folder / "._file.png").write_bytes(b"metadata of macOS")
    assert list(open_images(folder).names) == ["file.png", *(f"link/{i}.png" for i in range(5))]


def test_sources_without_images_are_errors(tmp_path):
    cases = {
        "empty": (ValueError, "empty holds no images; supported extensions are .bmp, .jpeg"),
        "gone": (FileNotFoundError, "no such file or folder: "),
        "text.txt": (ValueError, "images are read from folders, .zip, .tar, .npz and .npy, not from a .txt file"),
        "bad.zip": (ValueError, "bad.zip is damaged or not a .zip file"),
        "bad.tar": (ValueError, "bad.tar is damaged or not a .tar file"),
        "stats.npz": (ValueError, "holds no images under 'arr_0' or 'images' or 'samples'; its keys are 'mu', 'sigma'"),
        "float.npy": (TypeError, "images must be uint8, got dtype float64"),
        "flat.npy": (ValueError, r"got shape \(3, 4\)"),
        "five.npy": (ValueError, r"with 1, 3 or 4 channels, got shape \(2, 8, 8, 5\)"),
    }
    (tmp_path / "empty").mkdir()
    for name in ("text.txt", "bad.zip", "bad.tar"):
        (tmp_path / name).write_text("not an archive" * 100)
    np.savez(tmp_path / "stats.npz", mu=np.zeros(2), sigma=np.eye(2))
    np.save(tmp_path / "float.npy", np.zeros((2, 8, 8, 3)))
    np.save(tmp_path / "flat.npy", np.zeros((3, 4), np.uint8))
    np.save(tmp_path / "five.npy", np.zeros((2, 8, 8, 5), np.uint8))
    for name, (error, message) in cases.items():
        with pytest.raises(error, match=message):
            open_images(tmp_path / name)
    assert not holds_images(tmp_path / "stats.npz")
    assert not holds_images(tmp_path / "flat.npy")
    assert not holds_images(tmp_path / "gone.npz")
    (tmp_path / "nothing.npy").write_bytes(b"")
    assert not holds_images(tmp_path / "nothing.npy")
    assert holds_images(tmp_path / "bad.zip")  # open_images reports the damage


def test_the_fingerprint_changes_with_the_content(tmp_path, pixels):
    one, two = (write_folder(tmp_path / name, pixels) for name in ("one", "two"))
    base = open_images(one).fingerprint()
    image = two / "b" / "003.PNG"
    os.utime(image, (2e9, 2e9))
    assert open_images(two).fingerprint() == base
    image.rename(image.with_name("004.png"))
    renamed = open_images(two).fingerprint()
    (two / "a" / "000.png").unlink()
    assert len({base, renamed, open_images(two).fingerprint()}) == 3
