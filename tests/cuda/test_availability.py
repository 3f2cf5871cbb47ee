"""`fidfast.cuda`: availability, error messages without a usable device, the self-test and the report."""

import json
import sys

import numpy as np
import pytest
import test_layout
from device_arrays import DeviceArray
from runtime_calls import LAUNCH_FAILURE, OUT_OF_MEMORY

import fidfast
from fidfast import Moments, _core
from fidfast.cuda import _problems
from fidfast.cuda.__main__ import main


@pytest.fixture
def untested(extension, monkeypatch):
    """The extension, before the self-test of any device."""
    monkeypatch.setattr(fidfast.cuda, "_reasons", {})
    return extension


# No device ----------------------------------------------------------------------------------------------------------

STATES = {
    "none": "no driver",
    "old": r"driver too old: it supports CUDA 12\.4, but this build needs 1\d\.\d",
    "no device": "the driver finds none",
    "present": "the driver finds none",
}


@pytest.mark.parametrize("state", STATES)
def test_no_device(cuda, untested, state):
    cuda.set_driver(state)
    if state == "present":
        cuda.set_device_count(0)
    assert not fidfast.cuda.available()
    info = fidfast.cuda.info()
    assert (info["available"], info["devices"]) == (False, [])
    assert info["architectures"] == untested.architectures
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: no CUDA device: {STATES[state]}$"):
        Moments(3, device="cuda:0")
    with pytest.raises(RuntimeError, match=f"^no CUDA device: {STATES[state]}$"):
        untested.Moments(3, "float64", 0)
    with pytest.raises(RuntimeError, match=f"^{info['reason']}$"):
        untested.describe(0)


def test_a_driver_loaded_later_is_found(cuda, untested):
    """Devices can appear while a process runs: a driver is loaded, or CUDA_VISIBLE_DEVICES is set late."""
    cuda.set_driver("none")
    assert not fidfast.cuda.available()
    cuda.set_driver("present")
    assert fidfast.cuda.available()
    assert Moments(3, device="cuda:0").device == "cuda:0"


@pytest.mark.parametrize("number", [2, 17])
def test_a_device_number_out_of_range(untested, number):
    with pytest.raises(RuntimeError, match=f"^cuda:{number} cannot be used: there are 2 CUDA devices$"):
        Moments(3, device=f"cuda:{number}")
    with pytest.raises(RuntimeError, match=f"^no CUDA device {number}: there are 2$"):
        untested.Moments(3, "float64", number)
    with pytest.raises(RuntimeError, match=r"^no CUDA device -1: there are 2$"):
        untested.require_finite(np.eye(2), -1)


def test_info(extension):
    info = fidfast.cuda.info()
    assert fidfast.cuda.available()
    assert (info["available"], info["reason"]) == (True, None)
    assert [device["name"] for device in info["devices"]] == ["Stand-in 0", "Stand-in 1"]
    device = info["devices"][0]
    assert device["compute_capability"] == (8, 0)
    assert device["memory"] == 1 << 30
    assert device["usable"]
    assert info["libraries"]["cublas_path"].endswith("libcublas.so.13")
    assert info["libraries"]["cusolver_path"].endswith("libcusolver.so.12")
    json.dumps(info)  # plain values


def test_info_allocates_nothing(cuda, extension):
    """Another process may hold all of the memory, or use the device exclusively."""
    cuda.clear_calls()
    fidfast.cuda.info()
    fidfast.cuda.available()
    allowed = ("cudaGetDevice", "cudaDeviceGetAttribute", "cudaDriverGet", "cudaRuntimeGet", "cublasGet", "cusolverGet")
    assert all(call.name.startswith(allowed) for call in cuda.calls())


def test_an_unsupported_device(rng, cuda, untested):
    cuda.set_device(0, compute_capability=(7, 5))
    reason = "its compute capability is 7.5; fidfast needs 8.0 or later"
    assert [device["usable"] for device in fidfast.cuda.info()["devices"]] == [False, True]
    assert fidfast.cuda.available()
    moments = Moments(3)
    moments.update(rows_on_device(rng))  # on the CPU, without a warning
    assert moments.device == "cpu"
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: {reason}$"):
        Moments(3, device="cuda:0")
    cuda.set_device_count(1)
    assert not fidfast.cuda.available()
    assert fidfast.cuda.info()["reason"] == f"CUDA device 0: {reason}"


def test_without_the_extension(not_built):
    assert not fidfast.cuda.available()
    reason = "fidfast was built without CUDA"
    nothing = {"available": False, "reason": reason, "architectures": None, "devices": [], "libraries": {}}
    assert fidfast.cuda.info() == nothing
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: {reason}$"):
        Moments(3, device="cuda")


def test_info_keeps_the_reason_why_the_extension_cannot_be_loaded(extension, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "fidfast._cuda":
                raise ImportError("/x/_cuda.so: undefined symbol: cudaLaunchKernel")

    monkeypatch.delitem(sys.modules, "fidfast._cuda")
    monkeypatch.delattr(fidfast, "_cuda")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(fidfast.cuda.importlib.util, "find_spec", lambda name: object())
    assert fidfast.cuda.info()["reason"] == "/x/_cuda.so: undefined symbol: cudaLaunchKernel"


# The self-test ------------------------------------------------------------------------------------------------------


def test_the_self_test_is_short_and_runs_once(cuda, untested):
    cuda.clear_calls()
    assert fidfast.cuda.extension(0) is untested
    calls = cuda.calls()
    # About 5 microseconds each on a GPU: 3 milliseconds.
    assert 50 < len(calls) < 600
    assert fidfast.cuda.extension(0) is untested
    assert cuda.calls() == calls
    assert fidfast.cuda.why_not(0) is None


def test_the_self_test_covers_tensor_cores_only_if_they_are_used(cuda, untested, monkeypatch):
    tested = []
    cuda.set_device(1, single_to_double_ratio=64)
    monkeypatch.setattr(_problems, "self_test_values", lambda *arguments: (tested.append(arguments), {})[1])
    for device in range(2):
        assert fidfast.cuda.extension(device) is untested
    assert tested == [(untested, 0, False), (_core, 0, False), (untested, 1, True), (_core, 0, True)]
    assert [device["tensor_cores"] for device in fidfast.cuda.info()["devices"]] == [False, True]


@pytest.mark.slow  # the fixture runs it too, with a larger tolerance
def test_the_self_test_of_tensor_cores(cuda, untested):
    """All sums of products are exact; only weights and means are rounded."""
    cuda.clear_calls()
    found = _problems.self_test_values(untested, 1, True)
    assert any("rank_update" in call.name for call in cuda.calls())
    assert found == pytest.approx(_problems.self_test_values(_core, 0, True), rel=1e-13)
    assert len(found) == 4


def rows_on_device(rng):
    return DeviceArray(rng.standard_normal((9, 3)))


def assert_the_cpu_does_the_work(rows, match):
    """With one warning, and the same answer."""
    moments, expected = Moments(3), Moments(3)
    with pytest.warns(UserWarning, match=match) as caught:
        moments.update(rows)
    assert len(caught) == 1
    moments.update(rows)  # no second warning
    for _ in range(2):
        expected.update(rows.to_numpy())
    assert moments.device == "cpu"
    assert moments == expected
    with pytest.raises(RuntimeError, match=r"^cuda:0 cannot be used: its self-test "):
        Moments(3, device="cuda:0")


def test_a_device_with_a_wrong_result_is_not_used(rng, untested, monkeypatch):
    self_test_values = _problems.self_test_values

    def wrong(module, *arguments):
        return {**self_test_values(module, *arguments), "distance": 1.0 if module is untested else 1.0 + 2e-9}

    monkeypatch.setattr(_problems, "self_test_values", wrong)
    match = (
        "^CUDA device 0 is not used: its self-test differs from the CPU: "
        r"distance 1\.0 on the GPU, 1\.000000002 on the CPU\. The CPU is used instead\. "
        r"Please report this with the output of `python -m fidfast\.cuda`$"
    )
    assert_the_cpu_does_the_work(rows_on_device(rng), match)


def test_nan_is_a_wrong_result(untested, monkeypatch):
    values = {untested: {"distance": float("nan")}, _core: {"distance": 1.0}}
    monkeypatch.setattr(_problems, "self_test_values", lambda module, device, tensor_cores: values[module])
    with pytest.warns(UserWarning, match="distance nan on the GPU, 1.0 on the CPU"):
        assert fidfast.cuda.extension(0) is None


@pytest.mark.parametrize("error", [RuntimeError, ValueError, ZeroDivisionError])
def test_an_error_in_the_self_test(rng, untested, monkeypatch, error):
    """Wrong values can raise any error: NaN in the features, a matrix that is not a covariance."""

    def fails(module, device, tensor_cores):
        if module is untested:
            raise error("as if broken")

    monkeypatch.setattr(_problems, "self_test_values", fails)
    assert_the_cpu_does_the_work(rows_on_device(rng), "its self-test failed: as if broken. The CPU")


@pytest.mark.parametrize("name", ["cudaMalloc", "cublasDsyrk_v2", "cusolverDnXpotrf"])
def test_a_self_test_without_memory_is_repeated(rng, cuda, untested, name):
    """Memory may become free later."""
    rows = rows_on_device(rng)
    cuda.clear_calls()
    _problems.self_test_values(untested, 0, False)
    count = [call.name for call in cuda.calls()].index(name) + 1
    status = {"cudaMalloc": OUT_OF_MEMORY, "cublasDsyrk_v2": 3, "cusolverDnXpotrf": 2}[name]
    described = len(calls_of(cuda, lambda: untested.describe(0), untested.device_count))
    moments = Moments(3)
    with cuda.failing(count + described, status) as happened, pytest.raises(MemoryError):
        moments.update(rows)
    assert happened()
    assert (moments.num_samples, moments.device) == (0, "cpu")
    moments.update(rows)
    assert (moments.num_samples, moments.device) == (9, "cuda:0")


def calls_of(cuda, *works):
    cuda.clear_calls()
    for work in works:
        work()
    return cuda.calls()


@pytest.mark.parametrize("count", [5, 40, 120])
def test_a_cuda_call_that_fails_in_the_self_test(rng, cuda, untested, count):
    rows = rows_on_device(rng)
    cuda.fail_call(count, LAUNCH_FAILURE)
    assert_the_cpu_does_the_work(rows, "its self-test failed: ")


# The report ---------------------------------------------------------------------------------------------------------


def test_report(cuda, extension, monkeypatch, capsys):
    import runpy

    cuda.set_device_count(1)
    monkeypatch.setattr(sys, "argv", ["fidfast.cuda", "--dim", "8"])
    monkeypatch.delitem(sys.modules, "fidfast.cuda.__main__", raising=False)
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_module("fidfast.cuda", run_name="__main__")
    output = capsys.readouterr().out
    assert exit_info.value.code == 0, output
    assert output.endswith("\nall results agree\n")
    assert f"compiled for {extension.architectures}\n" in output
    assert "CUDA device 0\n  name                Stand-in 0\n" in output
    problems = [name for name, _ in _problems.problems(8)]
    assert len(problems) >= 9
    for name in problems:
        assert output.count(f"  {name} ") == 1


def test_report_of_wrong_results(cuda, extension, monkeypatch, capsys):
    cuda.set_device_count(1)

    def fails(module, device):
        if module is extension:
            raise ValueError("as if broken")
        return np.ones(1)

    problems = {
        "right": lambda module, device: np.ones(1),
        "wrong": lambda module, device: np.array([1.0, 2.0 + 3e-11 * (module is extension)]),
        "not a number": lambda module, device: np.array([np.nan if module is extension else 1.0]),
        "failing": fails,
    }
    monkeypatch.setattr(_problems, "problems", lambda dim: problems.items())
    assert main(["--dim", "8"]) == 1
    lines = {line[2:40].strip(): line[40:] for line in capsys.readouterr().out.splitlines()}
    assert "TOO LARGE" not in lines["right"]
    assert "1.5e-11" in lines["wrong"]
    assert "TOO LARGE" in lines["wrong"]
    assert "TOO LARGE" in lines["not a number"]
    assert lines["failing"] == "failed: as if broken"


@pytest.mark.parametrize("built", [True, False])
def test_report_without_a_gpu(cuda, request, extension, capsys, built):
    if not built:
        request.getfixturevalue("not_built")
    cuda.set_driver("none")
    assert main([]) == 0
    reason = "no CUDA device: no driver" if built else "fidfast was built without CUDA"
    output = capsys.readouterr().out
    assert output.endswith(f"compiled for {extension.architectures if built else 'no GPU'}\n{reason}\n")


# The stub -----------------------------------------------------------------------------------------------------------


def test_the_stub_matches_the_extension(extension):
    """Names imported from `_core` have the same members and arguments in both modules."""
    import ast

    tree = ast.parse((test_layout.PACKAGE / "_cuda.pyi").read_text(encoding="utf-8"))
    shared = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "fidfast._core"
        for alias in node.names
    }
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    variables = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert test_layout.public(vars(extension)) == test_layout.public(shared | set(functions) | variables)
    for name, node in functions.items():
        assert test_layout.arguments(node) == test_layout.arguments_of_doc(getattr(extension, name)), name
    for name in shared:
        ours, theirs = getattr(extension, name), getattr(_core, name)
        if not isinstance(ours, type):
            assert test_layout.arguments_of_doc(ours) == test_layout.arguments_of_doc(theirs), name
            continue
        members = {key for key in vars(ours) if not key.startswith("_")}
        assert members == {key for key in vars(theirs) if not key.startswith("_")}, name
        for key in members:
            if not isinstance(vars(ours)[key], property):
                same = [test_layout.arguments_of_doc(getattr(side, key)) for side in (ours, theirs)]
                assert same[0] == same[1], f"{name}.{key}"
    assert extension.__version__ == _core.__version__
