"""The BLAS library that SciPy has loaded, which fidfast calls."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["THREAD_VARIABLES", "blas_library"]

#: Environment variables that limit the number of threads of BLAS libraries, or what their idle threads do.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)

#: What the builds of OpenBLAS write before and after the names of its functions.
_PREFIXES, _SUFFIXES = ("scipy_", ""), ("", "64_", "_64")


class _SymbolInfo(ctypes.Structure):
    """``Dl_info`` of dlfcn.h."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def blas_library() -> dict[str, Any]:
    """Describe the library; SciPy's interface to it must have been imported.

    Returns
    -------
    dict
        ``path`` of the library; its ``name`` and ``version``; ``threads``, the number that it uses. None if unknown.

    Raises
    ------
    ImportError
        If SciPy's interface to BLAS is missing.
    OSError, RuntimeError
        If the library of SciPy's interface cannot be found.
    """
    interface = importlib.import_module("scipy.linalg.cython_blas")
    path = _library_of_symbol(str(interface.__file__))
    found = {"path": path, "name": None, "version": None, "threads": None}
    for describe in (_from_openblas, _from_mkl, _from_threadpoolctl, _from_build):
        if None in found.values():
            found.update({key: value for key, value in describe(path).items() if found[key] is None})
    return found


def _library_of_symbol(interface: str) -> str:
    """The file that defines the ``dgemm`` to which SciPy's interface is linked."""
    linked = ctypes.CDLL(interface)
    address_of = ctypes.CDLL(None).dladdr
    address_of.argtypes = [ctypes.c_void_p, ctypes.POINTER(_SymbolInfo)]
    for name in ("scipy_dgemm_", "scipy_dgemm_64_", "dgemm_", "dgemm_64_", "dgemm$NEWLAPACK", "dgemm"):
        # As the loader does, this searches the library itself, and then those that it is linked to.
        function = getattr(linked, name, None)
        info = _SymbolInfo()
        if function is None or not address_of(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(info)):
            continue
        if info.file:
            return os.path.realpath(os.fsdecode(info.file))
    raise RuntimeError(f"{interface} is linked to no known name of dgemm")


def _names(function: str) -> Iterator[str]:
    yield from (f"{prefix}{function}{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES)


def _from_openblas(path: str) -> dict[str, Any]:
    library = ctypes.CDLL(path)
    config = next((found for name in _names("openblas_get_config") if (found := getattr(library, name, None))), None)
    threads = next(
        (found for name in _names("openblas_get_num_threads") if (found := getattr(library, name, None))), None
    )
    if config is None:
        return {}
    config.restype = ctypes.c_char_p
    name, _, version = (config() or b"").decode("ascii", "replace").partition(" ")
    return {"name": name or "OpenBLAS", "version": version or None, "threads": threads() if threads else None}


def _from_mkl(path: str) -> dict[str, Any]:
    library = ctypes.CDLL(path)
    if not hasattr(library, "MKL_Get_Max_Threads"):
        return {}
    text = ctypes.create_string_buffer(200)
    if hasattr(library, "MKL_Get_Version_String"):
        library.MKL_Get_Version_String(text, len(text))
    version = text.value.decode("ascii", "replace").strip()
    return {"name": "MKL", "version": version or None, "threads": library.MKL_Get_Max_Threads()}


def _from_threadpoolctl(path: str) -> dict[str, Any]:
    """As threadpoolctl describes it, which knows further libraries; nothing if that package is not installed."""
    try:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return {}
    for entry in pools:
        if os.path.realpath(entry["filepath"]) == path:
            return {"name": entry["internal_api"], "version": entry["version"], "threads": entry["num_threads"]}
    return {}


def _from_build(_: str) -> dict[str, Any]:
    """The library with which SciPy was built; conda can replace it by another one."""
    build = importlib.import_module("scipy").__config__.show(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {})
    return {"name": blas.get("name"), "version": blas.get("version")}
