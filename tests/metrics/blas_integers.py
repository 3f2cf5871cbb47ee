"""Prints distances computed through SciPy's own routines, or through stand-ins with the integers named.

A SciPy with 64-bit integers cannot be installed from a wheel. Its modules are put in place by hand: capsules whose
names are the signatures it would have, around the routines of the 64-bit OpenBLAS that SciPy itself is built with.
"""

import ctypes
import json
import sys
import types
from pathlib import Path

import numpy as np

import fidfast


def capsules(library, integer):
    """A mapping like ``__pyx_capi__`` that makes its capsules as they are asked for."""

    class Capsules(dict):
        def __missing__(self, name):
            address = ctypes.cast(getattr(library, f"scipy_{name}_64_"), ctypes.c_void_p)
            signature = f"void (char *, {integer} *, __pyx_t_5scipy_6linalg_13cython_lapack_d *)".encode()
            keep.append(signature)  # a capsule borrows its name
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
        stand_in = types.ModuleType(f"scipy.linalg.{module}")
        stand_in.__pyx_capi__ = capsules(library, sys.argv[1])
        sys.modules[stand_in.__name__] = stand_in
        setattr(scipy.linalg, module, stand_in)

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
