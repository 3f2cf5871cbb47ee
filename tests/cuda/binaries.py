"""What compiled files tell of themselves, and where the tools are that read them."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def extension(name: str) -> Path:
    """The file of an extension of the installed fidfast, not imported; skips where it was not built."""
    found = importlib.util.find_spec(f"fidfast.{name}")
    if found is None or found.origin is None:
        pytest.skip(f"fidfast was built without {name}")
    return Path(found.origin)


def tool(name: str) -> str:
    """On PATH; skips where it is not."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH")
    return found


def output_of(*command: str | Path, **options) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def dynamic_entries(path: Path) -> dict[str, list[str]]:
    """Of the dynamic section: NEEDED, RUNPATH, RPATH and SONAME, in order."""
    entries: dict[str, list[str]] = {"NEEDED": [], "RUNPATH": [], "RPATH": [], "SONAME": []}
    for kind, value in re.findall(r"\((\w+)\).*: \[(.*)\]", output_of(tool("readelf"), "--dynamic", "--wide", path)):
        entries.setdefault(kind, []).append(value)
    return entries


def exported_functions(path: Path) -> set[str]:
    """Names without their versions."""
    lines = output_of(tool("nm"), "--dynamic", "--defined-only", path).splitlines()
    return {name.split("@")[0] for _, kind, name in map(str.split, lines) if kind in "TWi"}


def nvidia_folder(inside: str) -> Path:
    """The folder of the packages nvidia-* that holds a file of that pattern; skips where none does."""
    package = importlib.util.find_spec("nvidia")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for found in sorted(Path(folder).glob(f"*/{inside}")):
            return found.parent
    pytest.skip(f"no package of NVIDIA's holds {inside}: pip install nvidia-cublas nvidia-cusolver")


def machine_code_in(listing: str) -> dict[tuple[str, str], list[str]]:
    """The instructions of each kernel, by architecture and name, in what ``cuobjdump -sass`` prints."""
    code = {}
    for part in re.split(r"^\tcode for ", listing, flags=re.MULTILINE)[1:]:
        architecture = part.split("\n", 1)[0]
        for function in re.split(r"^\t\tFunction : ", part, flags=re.MULTILINE)[1:]:
            name, text = function.split("\n", 1)
            place_and_guard = r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?"
            code[architecture, name] = re.findall(place_and_guard + r"([A-Z][\w.]*)", text, re.MULTILINE)
    return code


def local_memory_in(instructions: list[str]) -> list[str]:
    """Those that load and store what a thread has no registers for."""
    return [each for each in instructions if re.match(r"(LDL|STL)\b", each)]


def atomics_in(instructions: list[str]) -> list[str]:
    return [each for each in instructions if re.match(r"(ATOM[SG]?|REDG?|ATOMGS?)\b", each)]
