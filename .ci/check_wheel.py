"""Check a repaired wheel: its tag, and the libraries that its extensions link to.

``python .ci/check_wheel.py WHEEL``. The tag is manylinux_2_N with N at most the minor version of this machine's glibc;
the images of the workflow have 2.28.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

#: What every Linux has, and for _cuda the CUDA runtime of the process that imports it.
SYSTEM = r"lib(c|m|stdc\+\+|gcc_s|pthread|dl|rt)\.so\.\d+|ld-linux-.*"
ALLOWED = {"_core": SYSTEM, "_cuda": rf"{SYSTEM}|libcudart\.so\.1[23]"}


def needed(extension: Path) -> list[str]:
    """The libraries that an extension links to."""
    dynamic = subprocess.run(["readelf", "--dynamic", "--wide", extension], capture_output=True, text=True, check=True)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic.stdout)


def main(wheel: Path) -> None:
    glibc = int(platform.libc_ver()[1].split(".")[1])
    version, tags = wheel.stem.split("-")[1], wheel.stem.split("-")[4].split(".")
    newest = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)_" + platform.machine(), wheel.stem)]
    assert newest, f"no manylinux tag: {tags}"
    assert min(newest) <= glibc, f"needs a newer glibc than this machine has, 2.{glibc}: {tags}"
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert not [name for name in names if ".libs/" in name], "auditwheel has copied libraries into the wheel"
        assert f"fidfast-{version}.dist-info/licenses/LICENSE" in names
        assert not [name for name in names if not re.match(r"fidfast(-[^/]*\.dist-info)?/", name)], names
        extensions = [name for name in names if name.endswith(".so")]
        modules = {Path(name).name.partition(".")[0]: Path(archive.extract(name, folder)) for name in extensions}
        assert "_core" in modules, names
        for module, path in modules.items():
            libraries = needed(path)
            assert "libc.so.6" in libraries, libraries
            foreign = [name for name in libraries if not re.fullmatch(ALLOWED[module], name)]
            assert not foreign, f"{module} links to {foreign}"
            print(f"{module}: {path.stat().st_size} bytes, links to {', '.join(libraries)}")
    print(f"{wheel.name}: runs with glibc 2.{min(newest)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
