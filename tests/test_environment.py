"""`environment` and `fidfast doctor`: what a bug report needs, on every installation."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import fidfast
from fidfast import _blas_library, _environment
from fidfast._cli import commands as cli

SECTIONS = ("fidfast", "system", "blas", "packages", "cuda", "cache", "weights")


def doctor(*options, blocked=(), folder="/", **variables):
    """The finished process of `fidfast doctor` that cannot import the blocked packages."""
    code = f"import sys\nblocked = {blocked!r}\nclass Block:\n"
    code += " def find_spec(self, name, path=None, target=None):\n"
    code += "  if name.split('.')[0] in blocked: raise ImportError(f'{name} is blocked')\n"
    code += "sys.meta_path.insert(0, Block())\n"
    code += f"from fidfast._cli.commands import main\ncode = main(['doctor', *{options!r}])\n"
    code += "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\nsys.exit(code)"
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=folder
    )


def test_every_section_and_line_has_a_value():
    found = fidfast.environment()
    assert set(SECTIONS) <= found.to_dict().keys()
    assert found.fidfast["version"] == fidfast.__version__
    assert Path(found.fidfast["core"]).is_file()
    assert found.fidfast["test_distance"] == pytest.approx(8, rel=1e-12)
    assert found.system["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.packages["numpy"] == np.__version__
    assert set(found.problems) <= (set() if sys.platform == "linux" else {"system.vector_instructions"})
    lines = found.table().split("\n")
    width = max(re.search(r"\S+( \S+)*", line).end() for line in lines)
    assert all(re.fullmatch(rf".{{{width}}}  \S.*", line) for line in lines)
    names = {line[:width].rstrip() for line in lines}
    assert names >= {"fidfast version", "python", "BLAS name", "thread variables", "torch", "CUDA", "cache folder"}
    assert len(names) == len(lines)


def test_the_command_prints_the_function(capsys):
    assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().out == fidfast.environment().table() + "\n"
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.items() >= fidfast.environment().to_dict().items()


def test_torch_and_other_packages_are_not_imported_and_not_needed():
    packages = ("torch", "torchvision", "timm", "PIL", "ray", "jax", "zarr", "pyarrow", "matplotlib", "threadpoolctl")
    free = doctor("--json")
    assert free.returncode == 0
    assert not set(packages) & set(eval(free.stderr))
    done = doctor("--json", blocked=packages)
    assert done.returncode == 0
    assert json.loads(done.stdout) == json.loads(free.stdout)


def test_packages_that_are_not_installed_say_how_to_install_them(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(_environment, "version", missing)
    found = fidfast.environment()
    assert set(found.packages.values()) == {None}
    extras = re.findall(r"^(\S+) +not installed \(pip install '?([^')]+)'?\)$", found.table(), re.MULTILINE)
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, target in extras:
        if extra := re.fullmatch(r"fidfast\[(\w+)\]", target):
            listed = re.search(rf"^{extra[1]} = \[(.*?)\n?\]$", project, re.MULTILINE | re.DOTALL)[1]
            assert f'"{name}' in listed, f"{name} is not in the extra {extra[1]}"
        else:
            assert name == target
    assert {name for name, _ in extras} == set(found.packages)


def test_a_broken_scipy_is_described():
    done = doctor("--json", blocked=("scipy",))
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["blas"]["path"] is None
    assert found["fidfast"]["test_distance"] is None
    assert {"blas.path", "blas.threads", "fidfast.test_distance"} <= found["problems"].keys()
    text = doctor(blocked=("scipy",)).stdout
    assert re.search(r"^BLAS version +unknown: ImportError: scipy\S* is blocked$", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["_test_distance", "_cpuinfo", "_version", "_cache", "_weights", "_torch_folder"])
def test_nothing_that_fails_is_fatal(name, monkeypatch):
    def fail(*_):
        raise RuntimeError("line 1\nline 2")

    monkeypatch.setattr(_environment, name, fail)
    found = fidfast.environment()
    assert found.problems
    assert set(found.problems.values()) == {"RuntimeError: line 1\nline 2"}
    unknown = re.findall(r"  unknown: RuntimeError: line 1\\nline 2$", found.table(), re.MULTILINE)
    assert unknown
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_failing_cuda_is_described(monkeypatch):
    def fail():
        raise OSError("driver")

    monkeypatch.setattr(_environment.cuda, "info", fail)
    found = fidfast.environment()
    assert found.cuda == {}
    assert re.search(r"^CUDA +unknown: OSError: driver$", found.table(), re.MULTILINE)


def test_gpus_have_a_line_each(monkeypatch):
    device = {"name": "GPU", "compute_capability": (9, 0), "memory": 140 * 10**9, "usable": True}
    info = {"available": True, "reason": None, "devices": [device, {**device, "usable": False}], "libraries": {"a": 1}}
    monkeypatch.setattr(_environment.cuda, "info", lambda: info)
    found = fidfast.environment()
    assert re.search(r"^CUDA +yes$", found.table(), re.MULTILINE)
    assert re.search(r"^CUDA device 0 +GPU, compute capability 9.0, 140.0 GB$", found.table(), re.MULTILINE)
    assert found.table().count(", not supported") == 1
    assert str(found).endswith(", 2 GPUs")


def test_the_blas_library_is_that_of_scipy():
    found = fidfast.environment().blas
    threadpoolctl = pytest.importorskip("threadpoolctl")
    loaded = {os.path.realpath(entry["filepath"]): entry for entry in threadpoolctl.threadpool_info()}
    assert found["path"] in loaded
    assert found["threads"] == loaded[found["path"]]["num_threads"]
    assert found["version"].startswith(loaded[found["path"]]["version"])
    if wheels := [path for path in loaded if "scipy.libs" in path]:  # NumPy's wheel has another copy
        assert found["path"] in wheels


def test_threads_follow_the_variable():
    blas = json.loads(doctor("--json", OPENBLAS_NUM_THREADS="1").stdout)["blas"]
    assert blas["variables"]["OPENBLAS_NUM_THREADS"] == "1"
    if blas["name"] == "OpenBLAS":
        assert blas["threads"] == 1


def test_a_library_without_known_functions_is_named_by_scipys_build(monkeypatch):
    monkeypatch.setattr(_blas_library, "_from_openblas", lambda path: {})
    monkeypatch.setattr(_blas_library, "_from_threadpoolctl", lambda path: {})
    found = _blas_library.blas_library()
    assert found["name"]
    assert found["threads"] is None


def test_weights_are_found_where_they_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    for name, entry in fidfast.environment().weights.items():
        assert entry["file"] is None, name
        for searched in reversed(entry["searched"]):
            file = Path(searched.replace("*", "0a1b"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
            assert fidfast.environment().weights[name]["file"] == str(file)
            if searched != entry["searched"][0]:
                file.unlink()
        Path(entry["searched"][0]).unlink()


@pytest.mark.slow
def test_the_folders_are_those_of_torch_and_the_hub():
    code = "import torch, huggingface_hub.constants as hub; from fidfast import _environment as e\n"
    code += "import os, sys; held = sys.modules.pop('torch')\n"
    code += "assert str(e._torch_folder()) == os.path.join(held.hub.get_dir(), 'checkpoints')\n"
    code += "assert str(e._hub_folder()) == hub.HF_HUB_CACHE"
    kept = {key: value for key, value in os.environ.items() if key not in ("TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME")}
    for changed in ({}, {"TORCH_HOME": "~/t", "HF_HOME": "~/h"}, {"XDG_CACHE_HOME": "/x"}, {"HF_HUB_CACHE": "/h"}):
        subprocess.run([sys.executable, "-c", code], check=True, env={**kept, **changed}, cwd="/")


def test_the_cache_is_writable_or_not(tmp_path, monkeypatch):
    monkeypatch.setenv("FIDFAST_CACHE", str(tmp_path / "new" / "cache"))
    found = fidfast.environment().cache
    assert found == {"folder": str(tmp_path / "new" / "cache"), "size": 0, "sets": 0, "writable": True}
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").write_text("a file")
    assert fidfast.environment().cache["writable"] is False
