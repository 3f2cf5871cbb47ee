"""The layout: which module may import which, private names, versions, true stubs, a light import."""

import ast
import importlib
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


#: The modules of the package. Each imports only those before it, also inside functions.
ORDER = """
_command_path _core _cuda
_text _warnings _masked _arguments _errors _progress _shards
cuda._problems cuda cuda.__main__
_devices _results
_files.records _files.buffers _files.zips _files.objects _files.pickles _files.torch_files _files.safetensors
_files.rows _files.parquet _files.zarr_arrays _files.states _files.formats _files.write _files.items
_files.extractors _files.folders _files.shards _files.catalog _files.readers
_files.headers _files
_stats.slices _stats.locks _stats.collector _stats.gaussian _stats.block_states _stats.moments _stats.class_moments
_stats.packing _stats.serialization _stats.several _stats
_images.decode _images.hashes _images.selection _images.images _images.folders _images.tar _images.archives
_images.arrays _images.open _images.choice _images.describe _images.cache _images
_sources _inputs _parts _merging
_metrics.scale _metrics.duplicates _metrics.frechet _metrics.groups _metrics.replicates _metrics.jackknife
_metrics.uncertainty _metrics.comparison _metrics.extrapolation _metrics.classwise _metrics.subsets
_metrics.kernel _metrics.neighbours _metrics.predictions _metrics.splits _metrics.split_sums
_metrics.inception_score _metrics.ngrams _metrics.sliced _metrics.vendi _metrics
_report.contents _report.worst _report.plots _report.page _report.result _report.build _report
_info _network_table _blas_library _environment _feature_demo
torch._extractors.devices torch._extractors.resize torch._extractors.arithmetic torch._extractors.callables
torch._extractors.networks torch._extractors.prepare
torch._extractors.extractor torch._extractors.adapters torch._extractors.conventions torch._extractors.inception
torch._extractors.efficientnet torch._extractors.pretrained torch._extractors.plugins
torch._extractors.named torch._extractors.stored torch._extractors.fidelity torch._extractors
torch._processes.reduction torch._processes.ranks torch._processes
torch._images.options torch._images.pixels torch._images.items torch._images.streams torch._images.sources
torch._images.batches
torch._images.checkpoint torch._images.collectors torch._images.joining torch._images.extraction_pass
torch._images.checks torch._images.collection torch._images.parts torch._images.extraction torch._images.distances
torch._images
torch._training.packing torch._training.sampling torch._training.metric
torch._training.samples
torch._training.means torch._training.running_stats torch._training.loss torch._training
torch._evaluation.metrics torch._evaluation.names torch._evaluation.sides torch._evaluation.networks
torch._evaluation.result torch._evaluation.collecting torch._evaluation.evaluate torch._evaluation
torch._demo torch
_fid __init__
torch.torchmetrics torch.lightning torch.ignite
jax
ray._columns ray._tree ray._datasets ray._extraction ray._sides ray._rows ray._distances ray._estimates
ray._evaluation ray
compat._distance compat._fidelity_keywords compat._fidelity_inputs compat._cleanfid_inputs compat.torch_fidelity
compat.cleanfid compat.pytorch_fid compat.evaluator compat
_cli.cache _cli.output _cli.signals _cli.checkpoints _cli.failures _cli.suggestions _cli.argument_types _cli.examples
_cli.arguments _cli.torchrun _cli.sources _cli.evaluation _cli.statistics _cli.completion _cli.commands
_cli
__main__
""".split()  # noqa: SIM905  # a line for each layer

#: Underscore names of other packages that are used for want of public ones.
FOREIGN = {
    "_batches_that_stepped",
    "_dtype",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_getframe",
    "_get_default_store",
    "_logical_plan",
    "_ActionsContainer",
    "_actions",
    "_option_string_actions",
}


def module_name(path):
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_modules(path):
    """The modules of the package that a file imports anywhere, by their names in `ORDER`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("fidfast.") in ORDER else node.module for name in inner]
        else:
            continue
        for name in names:
            if name == "fidfast":
                yield "__init__"
            elif name.startswith("fidfast."):
                yield name.removeprefix("fidfast.")


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


def test_no_name_of_a_package_hides_one_of_its_modules():
    for name in ORDER:
        package, _, module = name.rpartition(".")
        if module not in ("__init__", "__main__"):
            found = getattr(importlib.import_module(f"fidfast.{package}".rstrip(".")), module, None)
            assert found is None or inspect.ismodule(found), name


def test_every_module_is_in_the_order():
    modules = {module_name(path) for path in PACKAGE.rglob("*.py")}
    assert len(ORDER) == len(set(ORDER))
    assert modules == set(ORDER) - {"_core", "_cuda"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_modules_import_only_earlier_ones(path):
    position = ORDER.index(module_name(path))
    for name in imported_modules(path):
        assert name in ORDER, name
        assert ORDER.index(name) < position, f"{path} imports {name}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_name)
def test_no_module_uses_private_names_of_another(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assigned = [node for node in ast.walk(tree) if isinstance(node, (ast.Assign, ast.AnnAssign))]
    targets = [target for node in assigned for target in getattr(node, "targets", [getattr(node, "target", None)])]
    names = [name for target in targets for name in ast.walk(target)]
    defined |= {name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "") for name in names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr) and node.attr not in defined | FOREIGN:
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            assert own, f"{path}:{node.lineno} uses {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fidfast"):
            for alias in node.names:
                module = f"{node.module}.{alias.name}".removeprefix("fidfast.")
                assert not alias.name.startswith("_") or module in ORDER, f"{path} imports {alias.name}"


#: Folder of csrc -> what its files may include besides the C++ standard library, whose names have no slash or dot.
MAY_INCLUDE = {
    "core": r"core/",
    "cpu": r"(core|cpu)/|sys/mman\.h|pthread\.h",
    "cuda": r"(core|cuda)/|cuda_\w+\.h|library_types\.h|dlfcn\.h",
    "bindings": r"(core|cpu|bindings)/|pybind11/",
    "bindings/gil.hpp": r"core/|pybind11/|(cxxabi|pthread|unistd)\.h",
    "bindings/cuda.cpp": r"(core|cuda|bindings)/|pybind11/|cuda_runtime_api\.h",
}
SOURCES = sorted(path for path in SOURCE.rglob("*.*") if path.suffix in {".hpp", ".cpp", ".cu", ".cuh"})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_includes_of_the_core(path):
    within = path.relative_to(SOURCE)
    allowed = MAY_INCLUDE.get(within.as_posix(), MAY_INCLUDE[within.parts[0]])
    for name in includes(path):
        assert ("/" not in name and "." not in name) or re.match(allowed, name), f"{path} includes {name}"
    if path.parent.name != "bindings":
        assert "pybind11" not in path.read_text(encoding="utf-8")
    if path.parent.name not in ("cpu", "bindings"):
        assert not re.search(r"\b[sd](gemm|syrk|potrf|syevd)\w*\s*\(", path.read_text(encoding="utf-8"))


def test_heavy_packages_are_imported_where_they_are_used():
    heavy = {"torch", "matplotlib", "PIL", "tqdm", "ray", "scipy", "safetensors"}
    for path in PACKAGE.rglob("*.py"):
        everywhere, at_import = imports(path)
        assert not everywhere & {"benchmarks", "tests"}, path
        if not {"torch", "ray"} & set(path.relative_to(PACKAGE).parts):
            assert not at_import & heavy, path


def test_no_file_has_more_than_400_lines():
    for folder in ("csrc", "fidfast", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".hpp", ".cpp", ".cu", ".cuh"}:
                assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path


def test_no_module_without_a_subject():
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


def test_the_stub_matches_the_extension():
    tree = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
    stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    del stubs["MomentsState"]  # a type for type checkers only
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
    inner = re.sub(r"\[[^\[\]]*(\[[^\[\]]*\])*[^\[\]]*\]", "", inner)  # types contain commas
    return [part.split(":")[0].strip() for part in inner.split(",") if part.strip()]


def modules_after(statement):
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return set(json.loads(done.stdout))


def test_import_loads_numpy_and_the_core_and_nothing_else():
    extra = modules_after("import fidfast") - modules_after("import numpy")
    foreign = {name.split(".")[0] for name in extra} - sys.stdlib_module_names - {"fidfast", "numpy"}
    # Underscore names are hooks of an editable installation.
    assert {name for name in foreign if not name.startswith("_")} == set()


def test_idle_threads_of_openblas_sleep_by_default():
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


def test_only_the_adapters_import_training_frameworks():
    loaded = {name.split(".")[0] for name in modules_after("import fidfast.torch")}
    assert not loaded & {"torchmetrics", "lightning", "pytorch_lightning", "ignite"}


def error_of_import(folder, core=None):
    """Standard error of `import fidfast` in a tree with this text as its extension, or with none."""
    (folder / "fidfast").mkdir()
    (folder / "fidfast" / "__init__.py").write_text((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    if core is not None:
        (folder / "fidfast" / "_core.py").write_text(core)
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Editable' not in type(f).__name__ and "
    code += "'Redirecting' not in type(f).__name__]; import fidfast"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 1
    return done.stderr


def test_importing_an_uncompiled_tree_says_what_to_do(tmp_path):
    assert "ImportError: fidfast is not compiled for this Python: run `pip install .`" in error_of_import(tmp_path)


@pytest.mark.parametrize("error", ["ImportError('libstdc++.so.6: version not found')", "OSError('no such file')"])
def test_another_error_of_the_import_stays_as_it_is(tmp_path, error):
    stderr = error_of_import(tmp_path, f"raise {error}")
    assert stderr.splitlines()[-1] == error.replace("('", ": ").replace("')", "")
    assert "not compiled" not in stderr


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
