"""Pickles of arrays, read without executing anything: only arrays and plain containers are built."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

__all__ = ["ArrayUnpickler", "torch_safe_globals"]

# The functions that NumPy's pickles call, found without naming NumPy's private modules.
_reconstruct: Any = np.empty(0).__reduce__()[0]
_scalar: Any = np.float64(0).__reduce__()[0]
_frombuffer: Any = np.empty(0).__reduce_ex__(5)[0]

#: Classes and functions by the names that NumPy 1 ("core") and NumPy 2 ("_core") give them in pickles.
_ALLOWED: dict[tuple[str, str], Any] = {
    **{
        (f"numpy.{core}.{module}", name): value
        for core in ("core", "_core")
        for module, name, value in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    # The dictionary with attributes of the StyleGAN and EDM2 code bases.
    ("dnnlib.util", "EasyDict"): dict,
}

#: What ``torch.load(weights_only=True)`` may build besides tensors: the same, and instances of the classes of dtypes.
torch_safe_globals: list[Any] = [
    *((value, f"{module}.{name}") for (module, name), value in _ALLOWED.items()),
    *(type(np.dtype(code)) for code in "?bhilqBHILQefdgFDSU"),
]


class ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers, and rejects everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes in pickles of protocol 2
            return _encode_latin1
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it needs {module}.{name}, but only arrays and plain containers are loaded"
            ) from None


def _encode_latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")
