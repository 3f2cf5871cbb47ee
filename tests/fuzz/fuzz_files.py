"""Damaged files of every format, and what may come of reading them."""

import io
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import zarr
from fuzz_calls import Outcome, judge_result
from fuzz_values import DIM, N, class_moments, counts, images, moments, network, rows, score, stats
from PIL import Image
from safetensors.numpy import save_file

import fidfast
import fidfast.torch as ft
from fidfast._files import write_several_stats
from fidfast._stats import record_of_stats


def _encoded(image, kind, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def _files_of_images(rng):
    return {f"{i}.png": _encoded(image, "PNG") for i, image in enumerate(images(rng))}


def _zip(path, rng):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in _files_of_images(rng).items():
            archive.writestr(name, content)


def _tar(path, rng):
    with tarfile.open(path, "w") as archive:
        for name, content in _files_of_images(rng).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _record(rng):
    data = rows(rng, dtype=np.float64)
    return {"mu": data.mean(axis=0), "sigma": np.cov(data.T), "extractor": "name", "num_samples": N}


def _tensors(rng):
    return {"mu": torch.randn(DIM), "sigma": torch.eye(DIM), "extractor": "name"}


def _write_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


def _sums(rng):
    """The attributes of FeatureStats of StyleGAN and cd-fvd."""
    data = rows(rng, dtype=np.float64)
    sums = {"raw_mean": data.sum(axis=0), "raw_cov": data.T @ data, "all_features": [data[:4], data[4:]]}
    return {
        "capture_all": True,
        "capture_mean_cov": True,
        "max_items": None,
        "num_items": N,
        "num_features": DIM,
        **sums,
    }


def _reference_batch(path, rng):
    """As ADM writes it, compressed."""
    pair = {"mu": rng.normal(size=DIM), "sigma": np.eye(DIM), "mu_s": np.zeros(3), "sigma_s": np.eye(3)}
    np.savez_compressed(path, images(rng), **pair)


def _write_pair(path, rng):
    """``mu.npy`` and ``cov.npy`` of fadtk; `path` is one of them."""
    for name, array in (("mu", rng.normal(size=DIM)), ("cov", np.eye(DIM))):
        np.save(path.with_name(f"{name}.npy"), array)


def _write_shards(path, rng):
    """Two files; `path` is one of them."""
    for name in "ab":
        np.save(path.with_name(f"{name}.npy"), rows(rng))


def _lists(path, rng):
    pq.write_table(pa.table({"name": ["x"] * N, "features": list(rows(rng))}), path, row_group_size=N // 2)


def _lists_of_fixed_size(path, rng):
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows(rng).reshape(-1)), DIM)
    pq.write_table(pa.table({"features": values}), path, compression="none")


def _columns(path, rng):
    pq.write_table(pa.table({f"f{j}": column for j, column in enumerate(rows(rng).T)}), path)


def _zarr(**options):
    key = {} if options["zarr_format"] == 2 else {"chunk_key_encoding": {"name": "v2", "separator": "."}}

    def write(path, rng):
        zarr.create_array(path.parent, data=rows(rng), chunks=(5, DIM), overwrite=True, **options, **key)

    return write


def _zarr_group(path, rng):
    zarr.create_group(path.parent, overwrite=True).create_array("features", data=rows(rng), chunks=(5, DIM))


def _zarr_zip(path, rng):
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, data=rows(rng), chunks=(5, DIM))


#: Functions of a path and a random generator that write a valid file, by the name of the format and the suffix.
WRITERS: dict[str, tuple[str, Callable]] = {
    "features .npy": (".npy", lambda path, rng: np.save(path, rows(rng))),
    "features .npy, Fortran order": (".npy", lambda path, rng: np.save(path, np.asfortranarray(rows(rng)))),
    "features .npz": (".npz", lambda path, rng: np.savez(path, features=rows(rng), extractor="name")),
    "features .npz, compressed": (".npz", lambda path, rng: np.savez_compressed(path, features=rows(rng))),
    "features .pkl": (".pkl", lambda path, rng: _write_pickle(path, {"features": rows(rng)})),
    "features .pt": (".pt", lambda path, rng: torch.save({"features": torch.from_numpy(rows(rng))}, path)),
    "features .safetensors": (".safetensors", lambda path, rng: save_file({"features": rows(rng)}, path)),
    "features in two shards": ("-shards/b.npy", _write_shards),
    "features .parquet, lists": (".parquet", _lists),
    "features .parquet, lists of fixed size": (".parquet", _lists_of_fixed_size),
    "features .parquet, columns": (".parquet", _columns),
    "features .zarr, metadata of format 2": ("-2/.zarray", _zarr(zarr_format=2)),
    "features .zarr, chunk of format 2": ("-2/0.0", _zarr(zarr_format=2)),
    "features .zarr, metadata of format 3": ("-3/zarr.json", _zarr(zarr_format=3)),
    "features .zarr, chunk of format 3": ("-3/0.0", _zarr(zarr_format=3)),
    "features .zarr, group": ("-group/zarr.json", _zarr_group),
    "features .zarr, zip": (".zip", _zarr_zip),
    "statistics .npz": (".npz", lambda path, rng: stats(rng).save(path)),
    "statistics .npy": (".npy", lambda path, rng: np.save(path, _record(rng), allow_pickle=True)),
    "statistics .pkl": (".pkl", lambda path, rng: _write_pickle(path, _record(rng))),
    "statistics .pt": (".pt", lambda path, rng: torch.save(_tensors(rng), path)),
    "statistics .pt of torch 1.5": (
        ".pt", lambda path, rng: torch.save(_tensors(rng), path, _use_new_zipfile_serialization=False),
    ),
    "statistics .npz of three extractors": (
        ".npz", lambda path, rng: write_several_stats(path, {name: record_of_stats(stats(rng)) for name in "abc"}),
    ),
    "statistics .npz with images": (".npz", _reference_batch),
    "statistics .pkl of sums": (".pkl", lambda path, rng: _write_pickle(path, _sums(rng))),
    "statistics folder, the mean": ("/mu.npy", _write_pair),
    "statistics folder, the covariance": ("/cov.npy", _write_pair),
    "Moments": (".npz", lambda path, rng: moments(rng).save(path)),
    "Moments of three blocks": (".npz", lambda path, rng: moments(rng, 3).save(path)),
    "Moments of a shard": (
        ".npz", lambda path, rng: fidfast.moments_of_features(rows(rng), shard="1/1").save(path),
    ),
    "ClassMoments": (".npz", lambda path, rng: class_moments(rng).save(path)),
    "InceptionScore": (".npz", lambda path, rng: score(rng).save(path)),
    "NgramCounts": (".npz", lambda path, rng: counts(rng).save(path)),
    "images .npy": (".npy", lambda path, rng: np.save(path, images(rng))),
    "images .npz": (".npz", lambda path, rng: np.savez(path, images(rng))),
    "images .zip": (".zip", _zip),
    "images .tar": (".tar", _tar),
    "image .png": (".png", lambda path, rng: path.write_bytes(_encoded(images(rng)[0], "PNG"))),
    "image .jpg": (".jpg", lambda path, rng: path.write_bytes(_encoded(images(rng)[0], "JPEG"))),
    "image .webp": (".webp", lambda path, rng: path.write_bytes(_encoded(images(rng)[0], "WEBP"))),
    "image .bmp": (".bmp", lambda path, rng: path.write_bytes(_encoded(images(rng)[0], "BMP"))),
    "image .tif": (".tif", lambda path, rng: path.write_bytes(_encoded(images(rng)[0], "TIFF"))),
}  # fmt: skip


def readers(name: str) -> dict[str, Callable[[Path], object]]:
    """The public functions that read a format."""
    if name.split()[0] in ("Moments", "ClassMoments", "InceptionScore", "NgramCounts"):
        found = {"load": getattr(fidfast, name.split()[0]).load, "file_info": fidfast.file_info}
        if name.startswith("Moments"):
            found["fid"] = lambda path: fidfast.fid(path, np.eye(DIM))
        if name.endswith("Moments") or "shard" in name:
            found["merge_parts"] = fidfast.merge_parts
        return found
    if name.startswith("image "):
        return {"features_of_images": lambda path: ft.features_of_images([path], network, num_workers=0)}
    if name.startswith("images"):
        return {
            "features_of_images": lambda path: ft.features_of_images(path, network, num_workers=0),
            "file_info": fidfast.file_info,
        }
    found = {"fid": lambda path: fidfast.fid(path, np.eye(DIM)), "file_info": fidfast.file_info}
    if not name.startswith("features"):
        found["load"] = fidfast.GaussianStats.load
    if "/" in WRITERS[name][0]:
        return {function: lambda path, read=reader: read(path.parent) for function, reader in found.items()}
    return found


_LENGTHS = (0, 1, -1, 2**15, 2**31 - 1, 2**32 - 1, 2**63 - 1)
_NUMBERS = (np.nan, np.inf, -1.0, 1e300, -0.0, 5e-324)


def _mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one kind of damage."""
    damaged, n = bytearray(data), len(data)
    at = int(rng.integers(n)) if n else 0
    length = int(rng.integers(1, 65))
    match int(rng.integers(11)):
        case 0:
            for _ in range(int(rng.integers(1, 9))):
                damaged[int(rng.integers(n))] ^= 1 << int(rng.integers(8))
        case 1:
            del damaged[at:]
        case 2:
            damaged[at : at + length] = bytes(min(length, n - at))
        case 3:
            del damaged[at : at + length]
        case 4:
            damaged[at:at] = rng.bytes(length)
        case 5:
            other = int(rng.integers(n))
            damaged[at : at + length], damaged[other : other + length] = (
                damaged[other : other + length], damaged[at : at + length],
            )  # fmt: skip
        case 6:
            size = int(rng.choice([1, 2, 4, 8]))
            value = int(rng.choice(len(_LENGTHS)))
            order = "little" if rng.random() < 0.7 else "big"
            damaged[at : at + size] = (_LENGTHS[value] % 256**size).to_bytes(size, order)
        case 7:
            damaged += rng.bytes(length) if rng.random() < 0.5 else damaged[at:]
        case 8:  # digits of headers
            digits = [i for i, byte in enumerate(damaged) if 48 <= byte <= 57]
            for i in digits and rng.choice(digits, 2):
                damaged[i] = int(rng.integers(48, 58))
        case 9:
            at = at // 8 * 8
            damaged[at : at + 8] = np.float64(_NUMBERS[int(rng.integers(len(_NUMBERS)))]).tobytes()
        case _:
            damaged[at : at + length] = rng.bytes(length)
    return bytes(damaged)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with damage; of half of the zip archives a member is damaged, with a right checksum."""
    for _ in range(int(rng.integers(1, 3))):
        data = _with_damaged_member(data, rng) if data[:2] == b"PK" and rng.random() < 0.6 else _mutated(data, rng)
        if not data:
            break
    return data


def _with_damaged_member(data: bytes, rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(file, "w") as written:
            members = archive.infolist()
            chosen = int(rng.integers(len(members)))
            for i, member in enumerate(members):
                content = archive.read(member)
                written.writestr(member, _mutated(content, rng) if i == chosen else content)
    except Exception:  # damaged before
        return _mutated(data, rng)
    return file.getvalue()


def read(name: str, path: Path) -> list[Outcome]:
    """Read a file by all functions for its format, and judge the results or errors."""
    outcomes = []
    for function, reader in readers(name).items():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                result = reader(path)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:
                outcomes.append(_judge_error(function, error, path))
            else:
                outcomes.append(judge_result(function, result))
    return outcomes


def _judge_error(function: str, error: BaseException, path: Path) -> Outcome:
    """An error, which must name the file."""
    text = f"{function}: {type(error).__name__}: {error}"
    documented = isinstance(error, (ValueError, OSError, TypeError)) and not isinstance(error, UnicodeError)
    text_of_error = str(error)
    named = any(name in text_of_error for name in (path.name, str(path.parent), "features_a")) or getattr(
        error, "filename", None
    )
    return Outcome("error" if documented and named else "fault", text)
