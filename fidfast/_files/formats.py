"""Files: statistics of this and the field's other tools, checkpoints of moments, arrays of features.

A file is read into one of four plain records, `Stats`, `Checkpoint`, `State` or `Features`. Nothing here executes what
a file says: arrays are loaded without pickle, and pickles by an unpickler that knows arrays and plain containers only.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from fidfast import _core

__all__ = [
    "Checkpoint",
    "Entries",
    "Features",
    "Progress",
    "State",
    "Stats",
    "naming",
    "read",
    "read_state",
    "write_checkpoint",
    "write_state",
    "write_stats",
]

#: Rows of features that are read from a file and handed on at a time.
ROWS_AT_A_TIME = 8192

#: The names under which tools keep features in an archive of several arrays.
FEATURE_KEYS = ("features", "feats", "activations", "arr_0")

_CHECKPOINT_MARK = "fidfast_moments"
_STATE_MARK = "fidfast_state"

#: What an object is made of, by name.
Entries = Mapping[str, NDArray[Any]]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Stats:
    """Mean and covariance, with what else the file tells."""

    mu: NDArray[np.float64]
    sigma: NDArray[np.float64]
    num_samples: int | None = None
    extractor: str | None = None
    ddof: int | None = None

    what: ClassVar[str] = "statistics"


@dataclass(frozen=True)
class Progress:
    """How far an interrupted run had come."""

    #: What the run was of; another run must not go on from here.
    job: str
    #: Number of items seen.
    done: int
    #: Messages on those that were left out.
    skipped: Sequence[str] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A `Moments` as it was, in its blocks."""

    blocks: Sequence[_core.Moments]
    extractor: str | None = None
    progress: Progress | None = None

    what: ClassVar[str] = "a checkpoint of Moments"


@dataclass(frozen=True)
class State:
    """Another object that collects a stream, as it was."""

    #: Name of its class.
    kind: str
    entries: Entries

    @property
    def what(self) -> str:
        return f"a checkpoint of {self.kind}"


@dataclass(frozen=True)
class Features:
    """An (n, dim) array, perhaps a memory map."""

    features: Any
    extractor: str | None = None

    what: ClassVar[str] = "features"


Content = Stats | Checkpoint | State | Features


# Reading ------------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> Content:
    """What the file holds.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the ending is unknown, the file is damaged, or it holds neither statistics nor features.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(_READERS)}")
    try:
        return reader(path)
    except (zipfile.BadZipFile, zlib.error, EOFError, pickle.UnpicklingError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is damaged or not a {path.suffix} file: {error}") from error


def read_state(path: str | os.PathLike[str], kind: str, make: Callable[[Entries], _T]) -> _T:
    """The object of this class that the file holds, made of its entries.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or holds something else.
    """
    content = read(path)
    if not isinstance(content, State) or content.kind != kind:
        raise ValueError(f"{os.fspath(path)} holds {content.what}, not a checkpoint of {kind}")
    with naming(path):
        try:
            return make(content.entries)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the state of {kind} is damaged: {error}") from error


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name into a ValueError that lacks it."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from error


@contextmanager
def _numpy_reads(path: Path) -> Iterator[None]:
    """Says what to make of the errors of `numpy.load`."""
    try:
        yield
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are not loaded") from error
        raise ValueError(f"{path} is damaged or not a {path.suffix} file: {error}") from error


def _read_npy(path: Path) -> Features:
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":  # which numpy.load would take for a pickle
            raise ValueError(f"{path} is damaged or not a .npy file: it does not begin as one")
    with _numpy_reads(path):
        return Features(np.load(path, mmap_mode="r", allow_pickle=False))


def _read_npz(path: Path) -> Content:
    with zipfile.ZipFile(path):  # numpy.load would take anything else for a pickle
        pass
    with _numpy_reads(path), np.load(path, allow_pickle=False) as archive:
        entries = {key: archive[key] for key in archive}
    if _STATE_MARK in entries:
        return State(str(entries.pop(_STATE_MARK)), entries)
    if _CHECKPOINT_MARK not in entries:
        return _content_of(entries, path)
    extractor = _text(entries, "extractor")
    progress = Progress(**json.loads(str(entries.pop("progress")))) if "progress" in entries else None
    blocks: dict[str, dict[str, Any]] = {}
    for key, array in entries.items():
        block, _, name = key.rpartition("/")
        blocks.setdefault(block, {})[name] = array.item() if array.ndim == 0 else array
    states = [blocks[str(k)] for k in range(1, len(blocks))]
    with naming(path):
        # from_state checks what it is given.
        return Checkpoint([_core.Moments.from_state(state) for state in (blocks[""], *states)], extractor, progress)  # type: ignore[arg-type]


def _read_pickle(path: Path) -> Content:
    with open(path, "rb") as file:
        content = _ArrayUnpickler(file).load()
    if isinstance(content, Mapping) and "raw_mean" in content and "raw_cov" in content:
        return _stats_of_raw_sums(content)
    if isinstance(content, Mapping) and "mu" not in content:
        # EDM2 keeps one pair of mu and sigma for each metric.
        metrics = {key: value for key, value in content.items() if isinstance(value, Mapping) and "mu" in value}
        key = "fid" if "fid" in metrics else next(iter(metrics), None)
        if key is not None:
            return _content_of(metrics[key], path)
    return _content_of(content, path)


def _read_torch(path: Path) -> Content:
    import torch

    with torch.serialization.safe_globals([_reconstruct, np.ndarray, np.dtype, type(np.dtype("f8")), _scalar]):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged or holds more than tensors and arrays: {error}") from error
    return _content_of(content, path)


def _read_safetensors(path: Path) -> Content:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a .safetensors file: {error}") from error
    return _content_of(tensors, path)


_READERS: dict[str, Callable[[Path], Content]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pkl": _read_pickle,
    ".pickle": _read_pickle,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".safetensors": _read_safetensors,
}


def _content_of(content: Any, path: Path) -> Content:
    """Statistics or features in a mapping, or a bare array of features."""
    if getattr(content, "ndim", 0) > 0:
        return Features(content)
    keys = list(content) if isinstance(content, Mapping) else []
    if "mu" in keys and "sigma" in keys:
        num_samples = _number(content, "num_samples")
        return Stats(
            content["mu"], content["sigma"], num_samples, _text(content, "extractor"), _number(content, "ddof")
        )
    if len(keys) == 1 or any(key in FEATURE_KEYS for key in keys):
        key = next((key for key in FEATURE_KEYS if key in keys), keys[0])
        return Features(content[key], _text(content, "extractor"))
    wanted = "'mu' and 'sigma', nor features under " + " or ".join(repr(key) for key in FEATURE_KEYS)
    raise ValueError(f"{path} holds neither {wanted}; its keys are {', '.join(map(repr, keys)) or 'none'}")


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


# Pickles ------------------------------------------------------------------------------------------------------------

# What NumPy's own pickles call, found without naming its private modules.
_reconstruct: Any = np.empty(0).__reduce__()[0]
_scalar: Any = np.float64(0).__reduce__()[0]
_frombuffer: Any = np.empty(0).__reduce_ex__(5)[0]


class _ArrayUnpickler(pickle.Unpickler):
    """Knows NumPy arrays and plain containers, and refuses everything else."""

    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        **{
            (f"numpy.{core}.multiarray", name): value
            for core in ("core", "_core")
            for name, value in (("_reconstruct", _reconstruct), ("scalar", _scalar))
        },
        ("numpy.core.numeric", "_frombuffer"): _frombuffer,
        ("numpy._core.numeric", "_frombuffer"): _frombuffer,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "OrderedDict"): OrderedDict,
        # The dictionary with attributes that the StyleGAN and EDM2 code bases use.
        ("dnnlib.util", "EasyDict"): dict,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes in pickles of protocol 2
            return _encode_latin1
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, and only arrays and plain containers are loaded"
            ) from None


def _encode_latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


# Writing ------------------------------------------------------------------------------------------------------------


def write_stats(path: str | os.PathLike[str], stats: Stats) -> None:
    """The field's ``mu`` and ``sigma``, and beside them what is known."""
    known = {
        "num_samples": stats.num_samples,
        "ddof": stats.ddof,
        "extractor": stats.extractor,
        "fidfast_version": _core.__version__,
    }
    arrays = {"mu": stats.mu, "sigma": stats.sigma}
    _write_npz(path, {**arrays, **{key: value for key, value in known.items() if value is not None}})


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """The whole state of a `Moments`."""
    entries = {
        _CHECKPOINT_MARK: _core.__version__,
        **{
            f"{k}/{key}" if k > 0 else key: value
            for k, block in enumerate(checkpoint.blocks)
            for key, value in block.state().items()
        },
        "extractor": checkpoint.extractor or "",
    }
    if checkpoint.progress is not None:
        entries["progress"] = json.dumps(asdict(checkpoint.progress))
    _write_npz(path, entries)


def write_state(path: str | os.PathLike[str], state: State) -> None:
    """The whole state of another object that collects a stream; all entries are arrays of numbers or strings."""
    _write_npz(path, {_STATE_MARK: state.kind, "fidfast_version": _core.__version__, **state.entries})


def _write_npz(path: str | os.PathLike[str], entries: Mapping[str, Any]) -> None:
    """To a temporary file beside the target, then renamed: readers see the old file or the new one."""
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **entries)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode_of(path: Path) -> int:
    """The permissions of the file that is replaced, or those that the umask gives a new one."""
    if path.exists():
        return path.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
