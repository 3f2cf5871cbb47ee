"""The entries of a file of each format, without reading the arrays where the format allows it.

No file is executed: pickles are read by an unpickler that builds arrays and plain containers only.
"""

from __future__ import annotations

import functools
import pickle
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from fidfast._files.pickles import ArrayUnpickler, torch_safe_globals
from fidfast._files.records import Entry, Tree
from fidfast._masked import require_unmasked

__all__ = ["FORMATS", "read_npy_header", "tree_of"]


def _open_npy(path: Path) -> Tree:
    with open(path, "rb") as file:
        array = _array(file, lambda: np.load(path, mmap_mode="r", allow_pickle=False), f"{path} holds pickled objects")
    return {"": array} if isinstance(array, Entry) else array


def _open_npz(path: Path) -> Tree:
    def load(key: str) -> Any:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]

    tree: dict[str, Entry | Tree] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            key = name.removesuffix(".npy")
            with archive.open(name) as file:
                if key == name:
                    tree[key] = Entry((), "object", _refusal(f"{name!r} is not an array"))
                else:
                    reason = f"{path} holds pickled objects under {key!r}"
                    tree[key] = _array(file, functools.partial(load, key), reason)
    return tree


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, Fortran order and dtype of an array in NumPy's format; the data follow at the position of the file."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
    return header


def _array(file: IO[bytes], load: Callable[[], Any], if_pickled: str) -> Entry | Tree:
    """The entry of an array in NumPy's format; a pickled dictionary, which ``numpy.save`` accepts, becomes a tree."""
    shape, _, dtype = read_npy_header(file)
    if not dtype.hasobject:
        return Entry(shape, dtype.name, load)
    reason = f"{if_pickled}, which are not loaded"
    if shape == ():
        try:
            return tree_of(ArrayUnpickler(file).load().item())
        except (pickle.UnpicklingError, AttributeError, TypeError) as error:
            reason = f"{reason}: {error}"
    return Entry(shape, "object", _refusal(reason))


def _open_pickle(path: Path) -> Tree:
    with open(path, "rb") as file:
        return _mapping_of(ArrayUnpickler(file).load())


def _open_torch(path: Path) -> Tree:
    import torch

    with torch.serialization.safe_globals(torch_safe_globals):
        try:
            # Tensors of a memory map are read when they are used. Files of torch before 1.6 cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except (RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"{path} is damaged or holds more than tensors and arrays: {error}") from error
    return _mapping_of(content)


#: NumPy's names of the dtypes of safetensors.
_SAFETENSORS = {"F": "float", "BF": "bfloat", "I": "int", "U": "uint"}


def _open_safetensors(path: Path) -> Tree:
    from safetensors import SafetensorError, safe_open

    def load(key: str, framework: str) -> Any:
        with safe_open(path, framework=framework) as file:
            tensor = file.get_tensor(key)
        return tensor if framework == "np" else _to_numpy(tensor)

    try:
        with safe_open(path, framework="np") as file:
            tree: dict[str, Entry | Tree] = dict(tree_of(file.metadata() or {}))  # type: ignore[arg-type]
            for key in file.keys():  # noqa: SIM118  # not a mapping
                header = file.get_slice(key)
                name = header.get_dtype()
                letters = name.rstrip("0123456789")
                dtype = _SAFETENSORS.get(letters, letters.lower()) + name[len(letters) :]
                framework = "np" if hasattr(np, dtype.replace("bool", "bool_")) else "pt"  # NumPy has no bfloat16
                tree[key] = Entry(tuple(header.get_shape()), dtype, functools.partial(load, key, framework))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a .safetensors file: {error}") from error
    return tree


#: The function that lists the entries of a file, by suffix. A new format needs one function and one entry here.
FORMATS: dict[str, Callable[[Path], Tree]] = {
    ".npz": _open_npz,
    ".npy": _open_npy,
    ".pkl": _open_pickle,
    ".pickle": _open_pickle,
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".safetensors": _open_safetensors,
}


# Python objects -----------------------------------------------------------------------------------------------------


def _mapping_of(value: Any) -> Tree:
    tree = tree_of(value)
    return {"": tree} if isinstance(tree, Entry) else tree


def tree_of(value: Any, name: str = "the object") -> Entry | Tree:
    """The entries of an object of arrays, tensors, numbers, strings and plain containers; `name` is for messages."""
    require_unmasked(value, name)
    if isinstance(value, Mapping):
        return {
            str(key): (_tree_of_batches if key == "all_features" else tree_of)(item, repr(key))
            for key, item in value.items()
            if item is not None
        }
    if isinstance(value, (list, tuple)):
        return _tree_of_sequence(value, name)
    if hasattr(value, "detach") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        return Entry(tuple(value.shape), dtype, lambda: _to_numpy(value))
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.shape == ():
        return tree_of(value.item(), name)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float, str, bytes)):
        array = np.asarray(value)
        if not array.dtype.hasobject:
            return Entry(array.shape, array.dtype.name, lambda: array)
    shape = value.shape if isinstance(value, np.ndarray) else ()
    return Entry(shape, "object", _refusal(f"{name} holds objects ({type(value).__name__}), not numbers"))


def _tree_of_sequence(values: Sequence[Any], name: str) -> Entry | Tree:
    """An array for nested lists of numbers, ``mu`` and ``sigma`` for such a tuple, else the items by their number."""
    if not any(hasattr(value, "shape") or isinstance(value, Mapping) for value in values):
        try:
            array = np.asarray(values)
        except (ValueError, OverflowError):  # a ragged list
            array = np.asarray(None)
        if array.dtype.kind in "fiubU":
            return Entry(array.shape, array.dtype.name, lambda: array)
    tree = {str(number): tree_of(value, f"{name}[{number}]") for number, value in enumerate(values)}
    shapes = [item.shape if isinstance(item, Entry) else None for item in tree.values()]
    if len(shapes) in (2, 3) and len(shapes[0] or ()) == 1 and shapes[1] == 2 * shapes[0]:  # type: ignore[operator]
        return dict(zip(("mu", "sigma", "num_samples"), tree.values(), strict=False))
    return tree


def _tree_of_batches(values: Any, name: str) -> Entry | Tree:
    """One array for a list of (n, dim) batches, which StyleGAN writes."""
    tree = tree_of(values, name)
    if isinstance(tree, Entry):
        return tree
    batches = [batch for batch in tree.values() if isinstance(batch, Entry) and len(batch.shape) == 2]
    if len(batches) < len(tree) or len({batch.shape[1] for batch in batches}) != 1:
        return tree
    shape = (sum(batch.shape[0] for batch in batches), batches[0].shape[1])
    return Entry(shape, batches[0].dtype, lambda: np.concatenate([batch.load() for batch in batches]))


def _to_numpy(tensor: Any) -> Any:
    """The array of a tensor, also of a sparse one; float32 for the narrow types that NumPy lacks."""
    tensor = tensor.detach().cpu()
    if str(tensor.layout) != "torch.strided":
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.is_floating_point() and not hasattr(np, str(tensor.dtype).removeprefix("torch.")):
        tensor = tensor.float()
    return tensor.numpy()


def _refusal(reason: str) -> Callable[[], Any]:
    """A `load` that raises."""

    def load() -> Any:
        raise ValueError(reason)

    return load
