"""Description of the machine on which figures are measured."""

from __future__ import annotations

import os
import platform
import re
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def description() -> dict[str, Any]:
    """CPU, cores, BLAS and versions."""
    import threadpoolctl

    packages = {}
    for name in ("fidfast", "numpy", "scipy", "torch", "pytorch-fid", "torch-fidelity", "torchmetrics"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    pools = [
        {key: pool.get(key) for key in ("internal_api", "architecture", "version", "num_threads")}
        for pool in threadpoolctl.threadpool_info()
    ]
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": packages,
        "thread_pools": pools,
    }


def memory(*, peak: bool) -> int:
    """Present or peak memory of this process in bytes; without ``/proc`` always the peak.

    On Linux not from getrusage, where a child starts with the peak of its parent.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    key = "VmHWM" if peak else "VmRSS"
    return 1024 * int(re.search(rf"{key}:\s*(\d+) kB", status.read_text()).group(1))


def name() -> str:
    """Name of this machine for file names."""
    machine = description()
    text = f"{machine['cpu']}-{machine['cores']}-cores"
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _cpu() -> str:
    """Model and widest vector instructions, since virtual machines hide the model."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"model name\s*:\s*(.*)", text)
    flags = re.search(r"flags\s*:\s*(.*)", text)
    widest = [flag for flag in ("amx_tile", "avx512f", "avx2") if flags and flag in flags.group(1).split()]
    return " ".join([model.group(1).replace("(R)", "") if model else platform.machine(), *widest[:1]])
