"""Reading statistics, features and checkpoints of this package and of other tools.

One function reads each format into a record; `READERS` maps suffixes to them. No file is executed: arrays are loaded
without pickle, and pickles by an unpickler that builds arrays and plain containers only.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fidfast._files.pickles import ArrayUnpickler, torch_safe_globals
from fidfast._files.records import Content, Entries, Features, Progress, State, Stats
from fidfast._files.write import STATE_MARK

__all__ = ["FEATURE_KEYS", "READERS", "naming", "read", "read_state", "reading_state"]

#: Names that tools use for features in an archive of several arrays.
FEATURE_KEYS = ("features", "feats", "activations", "arr_0")

#: What libraries raise for damaged files, beside ValueError.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    SystemError,
    TypeError,
)

_T = TypeVar("_T")


def read(path: str | os.PathLike[str]) -> Content:
    """The content of a file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the suffix is unknown, the file is damaged, or it holds neither statistics nor features.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; supported are {', '.join(READERS)}")
    try:
        with naming(path):
            return reader(path)
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged or not a {path.suffix} file: {error}") from error


def read_state(path: str | os.PathLike[str], kind: str, from_state: Callable[[Entries], _T]) -> _T:
    """Read the checkpoint of a collector of class `kind`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is damaged, holds something else, or belongs to an unfinished run.
    """
    content = read(path)
    if not isinstance(content, State) or content.kind != kind:
        raise ValueError(f"{os.fspath(path)} holds {content.what}, not a checkpoint of {kind}")
    if content.progress is not None:
        raise ValueError(f"{os.fspath(path)} holds {content.what}, which only the same run can continue")
    with naming(path), reading_state(kind):
        return from_state(content.entries)


@contextmanager
def reading_state(kind: str) -> Iterator[None]:
    """Raises a ValueError for a state that lacks an entry or has entries of other types."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"the state of {kind} has no {error}") from error
    except (TypeError, OverflowError, RuntimeError) as error:  # the last from numbers beyond 64 bits
        raise ValueError(f"the state of {kind} is damaged: {error}") from error


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Adds the file's name to a ValueError that lacks it."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from error


# Formats ------------------------------------------------------------------------------------------------------------


@contextmanager
def _numpy_errors(path: Path) -> Iterator[None]:
    """Explains the errors of `numpy.load`."""
    try:
        yield
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are not loaded") from error
        raise ValueError(f"{path} is damaged or not a {path.suffix} file: {error}") from error


def _read_npy(path: Path) -> Features:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # numpy.load would treat it as a pickle
            raise ValueError(f"{path} is damaged or not a .npy file: the first bytes are not those of an .npy file")
    with _numpy_errors(path):
        return Features(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path) -> Content:
    with zipfile.ZipFile(path):  # numpy.load would treat anything else as a pickle
        pass
    with _numpy_errors(path), np.load(path, allow_pickle=False) as archive:
        entries = {key: archive[key] for key in archive}
    if STATE_MARK not in entries:
        return _content_of(entries, path)
    progress = entries.pop("progress", None)
    return State(
        str(entries.pop(STATE_MARK)), entries, None if progress is None else Progress(**json.loads(str(progress)))
    )


def _read_pickle(path: Path) -> Content:
    with open(path, "rb") as file:
        content = ArrayUnpickler(file).load()
    if isinstance(content, Mapping) and "raw_mean" in content and "raw_cov" in content:
        return _stats_of_raw_sums(content)
    if isinstance(content, Mapping) and "mu" not in content:
        # EDM2 stores one pair of mu and sigma for each metric.
        metrics = {key: value for key, value in content.items() if isinstance(value, Mapping) and "mu" in value}
        key = "fid" if "fid" in metrics else next(iter(metrics), None)
        if key is not None:
            return _content_of(metrics[key], path)
    return _content_of(content, path)


def _read_torch(path: Path) -> Content:
    import torch

    with torch.serialization.safe_globals(torch_safe_globals):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged or holds more than tensors and arrays: {error}") from error
    return _content_of(content, path)


def _read_safetensors(path: Path) -> Content:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a .safetensors file: {error}") from error
    return _content_of(tensors, path)


#: The reader of each suffix. A new format needs one function and one entry here.
READERS: dict[str, Callable[[Path], Content]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}


# Records ------------------------------------------------------------------------------------------------------------


def _content_of(content: Any, path: Path) -> Content:
    """Statistics or features in a mapping, or a bare array of features."""
    if getattr(content, "ndim", 0) > 0:
        return Features(content)
    keys = list(content) if isinstance(content, Mapping) else []
    if "mu" in keys and "sigma" in keys:
        num_samples = _number(content, "num_samples")
        return Stats(
            content["mu"],
            content["sigma"],
            num_samples,
            _text(content, "extractor"),
            _number(content, "ddof"),
            content.get("product_errors"),
        )
    if len(keys) == 1 or any(key in FEATURE_KEYS for key in keys):
        key = next((key for key in FEATURE_KEYS if key in keys), keys[0])
        return Features(content[key], _text(content, "extractor"))
    names = ", ".join(map(repr, FEATURE_KEYS))
    raise ValueError(
        f"{path} holds neither 'mu' and 'sigma' nor features under one of {names}; "
        f"its keys are {', '.join(map(repr, keys)) or 'none'}"
    )


def _stats_of_raw_sums(content: Mapping[str, Any]) -> Stats:
    """StyleGAN's FeatureStats: sums of the features and of their outer products; covariance with ddof 0."""
    n = int(content["num_items"])
    mu = np.asarray(content["raw_mean"], dtype=np.float64) / n
    sigma = np.asarray(content["raw_cov"], dtype=np.float64) / n - np.outer(mu, mu)
    return Stats(mu, sigma, n, None, 0)


def _number(content: Mapping[str, Any], key: str) -> int | None:
    return int(content[key]) if key in content else None


def _text(content: Mapping[str, Any], key: str) -> str | None:
    return (str(content[key]) or None) if key in content else None
