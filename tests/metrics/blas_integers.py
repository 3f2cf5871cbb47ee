"""Prints distances computed with SciPy's BLAS, or with a substitute that has another integer type.

No wheel of SciPy has 64-bit integers. This script replaces the modules that export its BLAS by capsules with the
signatures that such a SciPy would have, of the routines of the 64-bit OpenBLAS.

Usage: python blas_integers.py scipy|int64_t|...
"""

import ctypes
import json
import sys
import types
from pathlib import Path

import numpy as np

import fidfast


def capsules(library, integer):
    """A mapping like ``__pyx_capi__`` that creates capsules on access."""

    class Capsules(dict):
        def __missing__(self, name):
            address = ctypes.cast(getattr(library, f"scipy_{name}_64_"), ctypes.c_void_p)
            signature = f"void (char *, {integer} *, __pyx_t_5scipy_6linalg_13cython_lapack_d *)".encode()
            keep.append(signature)  # a capsule does not copy its name
            make = ctypes.pythonapi.PyCapsule_New
            make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
            return make(address, signature, None)

    return Capsules()


keep = []
if sys.argv[1] != "scipy":
    import scipy.linalg
    import scipy_openblas64

    library = ctypes.CDLL(str(next(Path(scipy_openblas64.get_lib_dir()).glob("libscipy_openblas64_.*"))))
    for module in ("cython_blas", "cython_lapack"):
        substitute = types.ModuleType(f"scipy.linalg.{module}")
        substitute.__pyx_capi__ = capsules(library, sys.argv[1])
        sys.modules[substitute.__name__] = substitute
        setattr(scipy.linalg, module, substitute)

rng = np.random.default_rng(0)
full, more = rng.standard_normal((3000, 40)), rng.standard_normal((2000, 40)) + 1
few = rng.standard_normal((20, 40))
wide_rows = rng.standard_normal((1100, 512)).astype(np.float32)
singular = np.cov(few, rowvar=False)
stats = fidfast.GaussianStats(few.mean(axis=0), singular)
a, b = fidfast.Moments(40), fidfast.Moments(40)
a.update(full)
b.update(more)
numbers = [
    fidfast.fid(full, more),
    fidfast.fid(few, more),
    fidfast.fid(few, few + 1),
    fidfast.fid(stats, more),
    fidfast.fid(wide_rows[:600], wide_rows[500:]),
    float(np.trace(fidfast.transport_map(b.stats(), a.stats()))),
    float(np.trace(fidfast.transport_map(b.stats(), stats))),
]
print(json.dumps(numbers))
