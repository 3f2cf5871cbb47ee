"""Pickles of arrays, read without executing anything: only arrays and plain containers are built."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np

__all__ = ["ArrayUnpickler", "torch_safe_globals"]

# The functions that NumPy's pickles call, found without naming NumPy's private modules.
_reconstruct: Any = np.empty(0).__reduce__()[0]
_scalar: Any = np.float64(0).__reduce__()[0]
_frombuffer: Any = np.empty(0).__reduce_ex__(5)[0]

#: What ``torch.load(weights_only=True)`` may build besides tensors.
torch_safe_globals = [_reconstruct, np.ndarray, np.dtype, type(np.dtype("f8")), _scalar]


class ArrayUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers, and rejects everything else."""

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
        # The dictionary with attributes of the StyleGAN and EDM2 code bases.
        ("dnnlib.util", "EasyDict"): dict,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):  # bytes in pickles of protocol 2
            return _encode_latin1
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it needs {module}.{name}, but only arrays and plain containers are loaded"
            ) from None


def _encode_latin1(text: str, encoding: str) -> bytes:
    return text.encode("latin1")
