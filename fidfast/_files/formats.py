"""The entries of a file of each format, without reading the arrays where the format allows it.

No file is executed: pickles are read by an interpreter that builds arrays and plain containers only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fidfast._files.buffers import ByteOrder, Bytes, array_entry, nbytes_of, require_plausible
from fidfast._files.objects import Objects, PickleError
from fidfast._files.parquet import open_parquet
from fidfast._files.pickles import read_pickle
from fidfast._files.records import Entry, Tree
from fidfast._files.safetensors import open_safetensors
from fidfast._files.torch_files import read_torch
from fidfast._files.zips import members_of, read_npy_header
from fidfast._masked import require_unmasked

__all__ = ["FORMATS", "open_npy", "read_npy_header", "tree_of"]

#: Largest number of characters in a list of texts that becomes an array, and of items in one that does not.
_MAX_TEXT = 2**28
_MAX_ITEMS = 10_000

_ADVICE = "save it as .npz where it was made: numpy.savez('stats.npz', mu=mu, sigma=sigma)"


def open_npy(path: Path) -> Tree:
    """The array under the key "", or the entries of a pickled dictionary."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        shape, fortran, dtype = read_npy_header(file, size=size)
        start = file.tell()

    def load() -> Bytes:
        return np.memmap(path, np.uint8, "r", start, (size - start,))

    if dtype.hasobject:
        pickled = path.read_bytes()
        array = _pickled(lambda: read_pickle(pickled, start)[0], shape, f"{path} holds pickled objects", size)
    else:
        array = _stored_array(load, size - start, shape, fortran, dtype)
    return {"": array} if isinstance(array, Entry) else array


def _open_npz(path: Path) -> Tree:
    """The arrays; those whose names have the same part before the last "/" are one dictionary."""
    tree: dict[str, Any] = {}
    for name, member in members_of(path).items():
        key = name.removesuffix(".npy")
        if name.startswith("__MACOSX/"):  # attributes of the other members
            continue
        if key == name:
            tree[key] = Entry((), "object", _refusal(f"{path}: {name!r} is not an array"))
            continue
        shape, fortran, dtype, start = member.npy_header()
        if dtype.hasobject:
            pickled = f"{path} holds pickled objects under {key!r}"
            tree[key] = _pickled(lambda: read_pickle(member.read().tobytes(), start)[0], shape, pickled, member.size)  # noqa: B023
        else:
            read = member.read if member.is_compressed else functools.cache(member.map)  # verifies the checksum once

            def load(read=read, start=start):  # type: ignore[no-untyped-def]
                return read()[start:]

            tree[key] = _stored_array(load, member.size - start, shape, fortran, dtype, not member.is_compressed)
    for key in list(tree):
        outer, slash, inner = key.rpartition("/")
        if slash and not isinstance(tree.get(outer), Entry):
            tree.setdefault(outer, {})[inner] = tree.pop(key)
    return tree


def _stored_array(
    load: Callable[[], Bytes],
    nbytes: int,
    shape: tuple[int, ...],
    fortran: bool,
    dtype: np.dtype[Any],
    is_mapped: bool = False,
) -> Entry:
    """The entry of an array in NumPy's format; one that is refused when it is read if it has no numbers or text."""
    order = "F" if fortran else "C"
    try:
        byte_order: ByteOrder = ">" if dtype.str[0] == ">" else "<"
        return array_entry(load, nbytes, dtype.str[1:], shape, order=order, byte_order=byte_order, is_mapped=is_mapped)
    except ValueError as error:
        return Entry(shape, "object", _refusal(str(error)))


def _pickled(read: Callable[[], Any], shape: tuple[int, ...], what: str, stored: int) -> Entry | Tree:
    """A pickled dictionary, which ``numpy.save`` accepts, becomes a tree; else an entry that is refused when read."""
    reason = f"{what}, which are not loaded"
    if shape == ():
        try:
            tree = tree_of(read())
            _require_plausible({"": tree}, stored)
            return tree
        except PickleError as error:
            reason = f"{reason}: {error}; {_ADVICE}"
    return Entry(shape, "object", _refusal(reason))


def _open_pickle(path: Path) -> Tree:
    try:
        return _mapping_of(read_pickle(path.read_bytes())[0], path)
    except PickleError as error:
        raise ValueError(f"{path} cannot be read: {error}; {_ADVICE}") from error


def _open_torch(path: Path) -> Tree:
    try:
        return _mapping_of(read_torch(path), path)
    except PickleError as error:
        raise ValueError(f"{path} is damaged or holds more than tensors and arrays: {error}; {_ADVICE}") from error


#: The function that lists the entries of a file, by suffix. A new format needs one function and one entry here.
FORMATS: dict[str, Callable[[Path], Tree]] = {
    ".npz": _open_npz,
    ".npy": open_npy,
    ".pkl": _open_pickle,
    ".pickle": _open_pickle,
    ".pt": _open_torch,
    ".pth": _open_torch,
    ".safetensors": open_safetensors,
    ".parquet": open_parquet,
}


# Python objects -----------------------------------------------------------------------------------------------------


def _mapping_of(value: Any, path: Path) -> Tree:
    tree = tree_of(value)
    entries: Tree = {"": tree} if isinstance(tree, Entry) else tree
    _require_plausible(entries, path.stat().st_size)
    return entries


def _require_plausible(tree: Tree, stored: int) -> None:
    """Raise a ValueError if an array is far larger than the file: references may repeat a batch of ``all_features``."""
    for key, entry in tree.items():
        if isinstance(entry, Entry):
            require_plausible(nbytes_of(entry.shape, 8), stored, repr(key))
        else:
            _require_plausible(entry, stored)


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
    if isinstance(value, Entry):
        return value
    if isinstance(value, Objects):
        if value.shape == () and len(value.items) == 1:
            return tree_of(value.items[0], name)
        return Entry(value.shape, "object", _refusal(f"{name} holds objects, not numbers"))
    if hasattr(value, "detach") and hasattr(value, "shape"):
        dtype = str(value.dtype).removeprefix("torch.")
        return Entry(tuple(value.shape), dtype, lambda: _to_numpy(value))
    if isinstance(value, np.ndarray) and value.dtype.hasobject and value.shape == ():
        return tree_of(value.item(), name)
    if isinstance(value, (str, bytes)):  # the array of a text needs four times its memory
        dtype = f"str{32 * max(len(value), 1)}" if isinstance(value, str) else f"bytes{8 * max(len(value), 1)}"
        return Entry((), dtype, lambda: np.asarray(value))
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(value)
        if not array.dtype.hasobject:
            return Entry(array.shape, array.dtype.name, lambda: array)
    shape = value.shape if isinstance(value, np.ndarray) else ()
    return Entry(shape, "object", _refusal(f"{name} holds objects ({type(value).__name__}), not numbers"))


def _tree_of_sequence(values: Sequence[Any], name: str) -> Entry | Tree:
    """An array for nested lists of numbers, ``mu`` and ``sigma`` for such a tuple, else the items by their number."""
    if not any(hasattr(value, "shape") or isinstance(value, Mapping) for value in values):
        try:
            longest, total, number = _text_in(values)
            # One long text would make all items of the array as long.
            is_small = longest * number <= min(100 * total + 10**6, _MAX_TEXT)
            if not is_small and len(values) > _MAX_ITEMS:
                return Entry((len(values),), "object", _refusal(f"{name} holds too much text"))
            array = np.asarray(values if is_small else None)
        except (ValueError, OverflowError):  # a ragged list
            array = np.asarray(None)
        if array.dtype.kind in "fiubU":
            return Entry(array.shape, array.dtype.name, lambda: array)
    tree = {str(number): tree_of(value, f"{name}[{number}]") for number, value in enumerate(values)}
    shapes = [item.shape if isinstance(item, Entry) else None for item in tree.values()]
    if len(shapes) in (2, 3) and len(shapes[0] or ()) == 1 and shapes[1] == 2 * shapes[0]:  # type: ignore[operator]
        return dict(zip(("mu", "sigma", "num_samples"), tree.values(), strict=False))
    return tree


def _text_in(values: Sequence[Any]) -> tuple[int, int, int]:
    """Length of the longest text in nested lists, the total length, and the number of items."""
    longest = total = number = 0
    for value in values:
        if type(value) is float:
            number += 1
            continue
        if isinstance(value, (str, bytes)):
            found = len(value), len(value), 1
        else:
            found = _text_in(value) if isinstance(value, (list, tuple)) else (0, 0, 1)
        longest, total, number = max(longest, found[0]), total + found[1], number + found[2]
    return longest, total, number


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
