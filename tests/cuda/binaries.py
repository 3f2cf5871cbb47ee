"""Inspection of compiled files, and paths of the tools for it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: The architectures of the wheels, as the extension states them.
SHIPPED = "80-real 90-real 100"


def extension(name: str) -> Path:
    """The path of a compiled module of the installed fidfast, without importing it. Skips the test if it is missing."""
    found = importlib.util.find_spec(f"fidfast.{name}")
    if found is None or found.origin is None:
        pytest.skip(f"fidfast was built without {name}")
    return Path(found.origin)


def tool(name: str) -> str:
    """The path of a tool. Skips the test if it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def output_of(*command: str | Path, **options) -> str:
    """The output of a command, which must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dynamic_entries(path: Path) -> dict[str, list[str]]:
    """The NEEDED, RUNPATH, RPATH and SONAME entries of the dynamic section, in order."""
    entries: dict[str, list[str]] = {"NEEDED": [], "RUNPATH": [], "RPATH": [], "SONAME": []}
    for kind, value in re.findall(r"\((\w+)\).*: \[(.*)\]", output_of(tool("readelf"), "--dynamic", "--wide", path)):
        entries.setdefault(kind, []).append(value)
    return entries


def exported_functions(path: Path) -> set[str]:
    """Names of exported functions, without versions."""
    lines = output_of(tool("nm"), "--dynamic", "--defined-only", path).splitlines()
    return {name.split("@")[0] for _, kind, name in map(str.split, lines) if kind in "TWi"}


def nvidia_folder(inside: str) -> Path:
    """The folder in the installed NVIDIA packages that has a file of this pattern. Skips the test if there is none."""
    package = importlib.util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for found in sorted(Path(folder).glob(f"*/{inside}")):
            return found.parent
    pytest.skip(f"no installed NVIDIA package has {inside}: pip install nvidia-cublas nvidia-cusolver")


def machine_code_in(listing: str) -> dict[tuple[str, str], list[str]]:
    """The instructions of each kernel by architecture and name, from the output of ``cuobjdump -sass``."""
    code = {}
    for part in re.split(r"^\tcode for ", listing, flags=re.MULTILINE)[1:]:
        architecture = part.split("\n", 1)[0]
        for function in re.split(r"^\t\tFunction : ", part, flags=re.MULTILINE)[1:]:
            name, text = function.split("\n", 1)
            address_and_guard = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?"
            code[architecture, name] = re.findall(address_and_guard + r"([A-Z][\w.]*)", text, re.MULTILINE)
    return code


def local_memory_in(instructions: list[str]) -> list[str]:
    """Loads and stores of local memory: spilled registers and indexed arrays."""
    return [each for each in instructions if re.match(r"(LDL|STL)\b", each)]


def atomics_in(instructions: list[str]) -> list[str]:
    return [each for each in instructions if re.match(r"(ATOM[SG]?|REDG?|ATOMGS?)\b", each)]
