"""The house keeps its order: who may know whom, one version, stubs that are true, a light import."""

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fidfast
from fidfast import _core

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "csrc"
PACKAGE = ROOT / "fidfast"


def includes(path):
    return re.findall(r'^\s*#include\s+[<"]([^>"]+)[>"]', path.read_text(encoding="utf-8"), re.MULTILINE)


def imports(path):
    """The top-level packages that the file imports anywhere, and those that it imports when it is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {node for parent in ast.walk(tree) if isinstance(parent, ast.FunctionDef) for node in ast.walk(parent)}
    everywhere, at_import = set(), set()
    for node in ast.walk(tree):
        names = {
            ast.Import: lambda node: {alias.name for alias in node.names},
            ast.ImportFrom: lambda node: {node.module or ""},
        }.get(type(node), lambda _: set())(node)
        everywhere |= {name.split(".")[0] for name in names}
        if node not in inside:
            at_import |= {name.split(".")[0] for name in names}
    return everywhere, at_import


#: Folder of csrc -> what its files may include besides the C++ standard library, whose names have no slash or dot.
MAY_INCLUDE = {
    "core": r"core/",
    "cpu": r"(core|cpu)/|sys/mman\.h",
    "cuda": r"(core|cuda)/|cuda_\w+\.h|library_types\.h|dlfcn\.h",
    "bindings": r"(core|cpu|bindings)/|pybind11/",
    "bindings/cuda.cpp": r"(core|cuda|bindings)/|pybind11/|cuda_runtime_api\.h",
}
SOURCES = sorted(path for path in SOURCE.rglob("*.*") if path.suffix in {".hpp", ".cpp", ".cu", ".cuh"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_layers_of_the_core(path):
    within = path.relative_to(SOURCE)
    allowed = MAY_INCLUDE.get(within.as_posix(), MAY_INCLUDE[within.parts[0]])
    for name in includes(path):
        assert ("/" not in name and "." not in name) or re.match(allowed, name), f"{path} includes {name}"
    if path.parent.name != "bindings":
        assert "pybind11" not in path.read_text(encoding="utf-8")
    if path.parent.name not in ("cpu", "bindings"):
        assert not re.search(r"\b[sd](gemm|syrk|potrf|syevd)\w*\s*\(", path.read_text(encoding="utf-8"))


def test_layers_of_the_package():
    heavy = {"torch", "matplotlib", "PIL", "tqdm", "ray", "scipy", "safetensors"}
    for path in PACKAGE.rglob("*.py"):
        everywhere, at_import = imports(path)
        assert not everywhere & {"benchmarks", "tests"}, path
        if "torch" not in path.relative_to(PACKAGE).parts:
            assert not at_import & heavy, path


def test_no_file_is_a_room_that_wants_splitting():
    for folder in ("csrc", "fidfast", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".hpp", ".cpp", ".cu", ".cuh"}:
                assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_no_drawers_for_odds_and_ends():
    for path in [*SOURCE.rglob("*"), *PACKAGE.rglob("*")]:
        assert path.stem not in {"utils", "common", "helpers", "misc", "registry"}, path


def test_versions_are_equal():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = re.search(r'^version = "(.*)"$', text, re.MULTILINE).group(1)
    assert fidfast.__version__ == _core.__version__ == project
    assert f"\nversion: {project}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {project}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def public(names):
    return {name for name in names if not name.startswith("_") or name in ("__init__", "__version__")}


def test_the_stub_is_the_module():
    tree = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
    stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    del stubs["MomentsState"]  # the type of a dictionary, which exists for type checkers only
    variables = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert public(vars(_core)) == public({*stubs, *variables})
    for name, node in stubs.items():
        real = getattr(_core, name)
        if isinstance(node, ast.FunctionDef):
            assert arguments(node) == arguments_of_doc(real), name
            continue
        methods = {child.name: child for child in node.body if isinstance(child, ast.FunctionDef)}
        constructed = {"__init__"} if "__init__" in methods else set()
        assert public(methods) == {key for key in vars(real) if not key.startswith("_")} | constructed, name
        for key, child in methods.items():
            member = inspect.getattr_static(real, key)
            if isinstance(member, property):
                assert [item.id for item in child.decorator_list] == ["property"], f"{name}.{key}"
            else:
                assert arguments(child) == arguments_of_doc(getattr(real, key)), f"{name}.{key}"


def arguments(node):
    return [argument.arg for argument in node.args.args]


def arguments_of_doc(function):
    """Names of the arguments, from the signature that pybind11 writes into the docstring."""
    inner = re.match(r"\w+\((.*)\) -> ", function.__doc__.splitlines()[0]).group(1)
    inner = re.sub(r"\[[^\[\]]*(\[[^\[\]]*\])*[^\[\]]*\]", "", inner)  # types have commas of their own
    return [part.split(":")[0].strip() for part in inner.split(",") if part.strip()]


def modules_after(statement):
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(json.loads(done.stdout))


def test_import_loads_numpy_and_the_core_and_nothing_else():
    extra = modules_after("import fidfast") - modules_after("import numpy")
    foreign = {name.split(".")[0] for name in extra} - sys.stdlib_module_names - {"fidfast", "numpy"}
    # What an editable install puts into sys.modules is the install's.
    assert {name for name in foreign if not name.startswith("_")} == set()


def test_idle_threads_of_blas_sleep_where_nobody_says_otherwise():
    look = "import os, sys, numpy as np\nclass Look:\n"
    look += " def find_spec(self, name, path=None, target=None):\n"
    look += "  if name == 'scipy.linalg': print(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))\n"
    look += "sys.meta_path.insert(0, Look())\n"
    run = "import fidfast; fidfast.fid(np.eye(3), np.eye(3)); print(os.environ.get('OPENBLAS_THREAD_TIMEOUT'))"
    for first, seen in (("", ["20", "None"]), ("import scipy.linalg\n", ["None", "None"])):
        code = look + first + run
        environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_THREAD_TIMEOUT"}
        for given, expected in ((environment, seen), ({**environment, "OPENBLAS_THREAD_TIMEOUT": "25"}, ["25", "25"])):
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/", env=given
            )
            assert done.stdout.split() == expected


def test_training_frameworks_are_loaded_by_their_adapters_only():
    loaded = {name.split(".")[0] for name in modules_after("import fidfast.torch")}
    assert not loaded & {"torchmetrics", "lightning", "pytorch_lightning", "ignite"}


def test_an_uncompiled_tree_says_what_to_do(tmp_path):
    (tmp_path / "fidfast").mkdir()
    (tmp_path / "fidfast" / "__init__.py").write_text((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Editable' not in type(f).__name__ and "
    code += "'Redirecting' not in type(f).__name__]; import fidfast"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "ImportError: fidfast is not compiled for this Python: run `pip install .`" in done.stderr


def test_every_public_name_is_documented():
    for name in fidfast.__all__:
        thing = getattr(fidfast, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
        if inspect.isclass(thing) and not issubclass(thing, tuple):
            for key, member in vars(thing).items():
                if not key.startswith("_") and key not in getattr(thing, "__dataclass_fields__", {}):
                    assert inspect.getdoc(member), f"{name}.{key}"


def test_docstring_examples():
    import doctest

    finder, runner = doctest.DocTestFinder(recurse=True), doctest.DocTestRunner()
    for name in ("fidfast", *fidfast.__all__):
        thing = fidfast if name == "fidfast" else getattr(fidfast, name)
        for example in finder.find(thing, name, module=False, globs={**vars(fidfast)}):
            runner.run(example)
    assert runner.summarize().attempted > 10
    assert runner.summarize().failed == 0
