"""Builds the libraries of `tests/cuda/standin/`, and extracts PTX from an extension."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).parent / "standin"
#: Sonames of the libraries, and the sources of each. The others depend on the first.
_PARTS = {
    "libcudart.so.13": ("calls", "devices", "hooks", "launch", "memory", "runtime", "runtime_memory", "streams"),
    "libcublas.so.13": ("blas",),
    "libcusolver.so.12": ("decompositions", "solver"),
}
SONAMES = tuple(_PARTS)
FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Wshadow",
    "-Wconversion",
    "-Wno-sign-conversion",
    "-Werror",
)


class UnavailableError(RuntimeError):
    """A requirement of the stand-in is missing. The message names it."""


_CUOBJDUMP = "nvidia-cuda-cuobjdump==13.2.86 nvidia-cuda-nvdisasm==13.2.86"


def build() -> Path:
    """Build the libraries unless a build of the same sources exists, and return their folder.

    Raises
    ------
    UnavailableError
        If there is no C++ compiler, or the CUDA headers are missing.
    RuntimeError
        If the compiler fails.
    """
    compiler = cxx_compiler()
    headers = cuda_headers()
    digest = hashlib.sha256(repr((compiler, str(headers), FLAGS, _PARTS)).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fidfast-standin-{os.getuid()}-{digest.hexdigest()[:16]}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix="fidfast-standin-build-") as workshop:
            finished = Path(workshop) / "finished"
            finished.mkdir()
            _build_in(Path(workshop), finished, compiler, headers)
            try:
                finished.rename(folder)  # atomic: another process may build the same libraries
            except OSError:
                if not folder.is_dir():
                    raise
    return folder


def _build_in(workshop: Path, finished: Path, compiler: str, headers: Path) -> None:
    def compiled(name: str) -> Path:
        target = workshop / f"{name}.o"
        _run(compiler, *FLAGS, "-isystem", headers, "-c", SOURCES / f"{name}.cpp", "-o", target)
        return target

    names = [name for parts in _PARTS.values() for name in parts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = dict(zip(names, pool.map(compiled, names), strict=True))
    runtime = SONAMES[0]
    for soname in SONAMES:
        script = f"-Wl,--version-script={SOURCES / 'libcudart.map'}"
        needed = [script] if soname == runtime else [finished / runtime]
        parts = [objects[name] for name in _PARTS[soname]]
        shared = "-shared", f"-Wl,-soname,{soname}", "-Wl,-rpath,$ORIGIN"
        _run(compiler, *shared, *parts, *needed, "-o", finished / soname)


def _run(*command) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"building the stand-in for CUDA failed:\n{done.stderr}")


def cxx_compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise UnavailableError("the stand-in for CUDA needs a C++ compiler")


def cuda_headers() -> Path:
    """The folder of `cuda_runtime_api.h`, which is installed with nvcc."""
    candidates = []
    if nvcc := shutil.which("nvcc"):
        # Prints the include path without compiling; the file need not exist.
        plan = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True, check=False)
        candidates += re.findall(r'^#\$ INCLUDES="-I([^"]+)"', plan.stdout + plan.stderr, re.MULTILINE)
    candidates += [f"{os.environ[name]}/include" for name in ("CUDA_HOME", "CUDA_PATH") if name in os.environ]
    for folder in candidates:
        if (Path(folder) / "cuda_runtime_api.h").is_file():
            return Path(folder).resolve()
    raise UnavailableError(
        "the stand-in for CUDA needs the headers installed with nvcc: put nvcc on PATH or set CUDA_HOME"
    )


def ptx_of(extension: str | Path) -> str:
    """The PTX modules in the extension, as printed by cuobjdump.

    Raises
    ------
    UnavailableError
        If cuobjdump is missing.
    RuntimeError
        If cuobjdump fails, or the extension contains no PTX.
    """
    done = subprocess.run(
        [cuobjdump(), "-ptx", str(extension)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"cuobjdump cannot read {extension}: {(done.stderr or done.stdout).strip()}")
    if ".version" not in done.stdout:
        raise RuntimeError(f"{extension} contains no PTX: build it for a virtual architecture such as code=compute_80")
    return done.stdout


def cuobjdump() -> str:
    if found := shutil.which("cuobjdump"):
        return found
    package = importlib.util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or ()) if package else ():
        if found := shutil.which("cuobjdump", path=f"{folder}/cu13/bin"):
            return found
    raise UnavailableError(
        f"cuobjdump is neither on PATH nor in the NVIDIA packages: pip install --no-deps {_CUOBJDUMP}"
    )
