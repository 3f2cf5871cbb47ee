"""Install a wheel in an empty environment, and run the quick tests of [tool.cibuildwheel] in pyproject.toml on it.

``python .ci/quick_tests.py WHEEL [REQUIREMENT ...]``; the requirements are versions of other packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tomllib

ROOT = Path(__file__).parents[1]


def main(wheel: str, requirements: list[str]) -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
    with tempfile.TemporaryDirectory() as folder:
        environment, sources = Path(folder, "environment"), Path(folder, "sources")
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        install = [environment / "bin/python", "-m", "pip", "install", "--quiet"]
        subprocess.run(
            [*install, "--only-binary", ":all:", wheel, *requirements, *options["test-requires"]], check=True
        )
        for name in options["test-sources"]:
            copy = sources / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy)
        path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
        for command in options["test-command"]:
            subprocess.run(command, shell=True, check=True, cwd=sources, env={**os.environ, "PATH": path})


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).resolve()), sys.argv[2:])
