"""Whether there is a GPU to work on, what is told where there is none, and the first look at one."""

import json
import sys

import numpy as np
import pytest
import test_house
from device_arrays import DeviceArray
from runtime_calls import LAUNCH_FAILURE, OUT_OF_MEMORY

import fidfast
from fidfast import Moments, _core
from fidfast.cuda import check


@pytest.fixture
def unseen(extension, monkeypatch):
    """The extension, where no device has had its first look."""
    monkeypatch.setattr(fidfast.cuda, "_verdicts", {})
    return extension


# No device ----------------------------------------------------------------------------------------------------------

STATES = {
    "none": "no driver",
    "old": r"driver too old: it supports CUDA 12\.4, but this build needs 1\d\.\d",
    "no device": "the driver finds none",
    "present": "the driver finds none",
}


@pytest.mark.parametrize("state", STATES)
def test_no_device(cuda, unseen, state):
    cuda.set_driver(state)
    if state == "present":
        cuda.set_device_count(0)
    assert not fidfast.cuda.available()
    known = fidfast.cuda.info()
    assert (known["available"], known["devices"]) == (False, [])
    assert known["architectures"] == unseen.architectures
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: no CUDA device: {STATES[state]}$"):
        Moments(3, device="cuda:0")
    with pytest.raises(RuntimeError, match=f"^no CUDA device: {STATES[state]}$"):
        unseen.Moments(3, "float64", 0)
    with pytest.raises(RuntimeError, match=f"^{known['reason']}$"):
        unseen.describe(0)


def test_a_driver_that_comes_later_is_found(cuda, unseen):
    """What there is may change while a process lives: a driver is loaded, or CUDA_VISIBLE_DEVICES is set late."""
    cuda.set_driver("none")
    assert not fidfast.cuda.available()
    cuda.set_driver("present")
    assert fidfast.cuda.available()
    assert Moments(3, device="cuda:0").device == "cuda:0"


@pytest.mark.parametrize("number", [2, 17])
def test_a_device_that_is_not_there(unseen, number):
    with pytest.raises(RuntimeError, match=f"^cuda:{number} cannot be used: there are 2 CUDA devices$"):
        Moments(3, device=f"cuda:{number}")
    with pytest.raises(RuntimeError, match=f"^no CUDA device {number}: there are 2$"):
        unseen.Moments(3, "float64", number)
    with pytest.raises(RuntimeError, match=r"^no CUDA device -1: there are 2$"):
        unseen.require_finite(np.eye(2), -1)


def test_what_there_is(extension):
    known = fidfast.cuda.info()
    assert fidfast.cuda.available()
    assert (known["available"], known["reason"]) == (True, None)
    assert [device["name"] for device in known["devices"]] == ["Stand-in 0", "Stand-in 1"]
    device = known["devices"][0]
    assert device["compute_capability"] == (8, 0)
    assert device["memory"] == 1 << 30
    assert device["usable"]
    assert known["libraries"]["cublas_path"].endswith("libcublas.so.13")
    assert known["libraries"]["cusolver_path"].endswith("libcusolver.so.12")
    json.dumps(known)  # plain values


def test_telling_what_there_is_takes_nothing_of_any_device(cuda, extension):
    """Other processes may have all of its memory, or keep it to themselves."""
    cuda.clear_calls()
    fidfast.cuda.info()
    fidfast.cuda.available()
    allowed = ("cudaGetDevice", "cudaDeviceGetAttribute", "cudaDriverGet", "cudaRuntimeGet", "cublasGet", "cusolverGet")
    assert all(call.name.startswith(allowed) for call in cuda.calls())


def test_a_device_that_is_too_old(rng, cuda, unseen):
    cuda.set_device(0, compute_capability=(7, 5))
    reason = "its compute capability is 7.5, and fidfast needs 8.0"
    assert [device["usable"] for device in fidfast.cuda.info()["devices"]] == [False, True]
    assert fidfast.cuda.available()
    moments = Moments(3)
    moments.update(rows_on_device(rng))  # on the CPU, and no reason to warn
    assert moments.device == "cpu"
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: {reason}$"):
        Moments(3, device="cuda:0")
    cuda.set_device_count(1)
    assert not fidfast.cuda.available()
    assert fidfast.cuda.info()["reason"] == f"CUDA device 0: {reason}"


def test_without_the_extension(not_built):
    assert not fidfast.cuda.available()
    reason = "fidfast was built without a CUDA compiler"
    nothing = {"available": False, "reason": reason, "architectures": None, "devices": [], "libraries": {}}
    assert fidfast.cuda.info() == nothing
    with pytest.raises(RuntimeError, match=f"^cuda:0 cannot be used: {reason}$"):
        Moments(3, device="cuda")


def test_an_extension_that_cannot_be_loaded_says_why(extension, monkeypatch):
    """A library is missing, say, whose name is not to be lost."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "fidfast._cuda":
                raise ImportError("/x/_cuda.so: undefined symbol: cudaLaunchKernel")

    monkeypatch.delitem(sys.modules, "fidfast._cuda")
    monkeypatch.delattr(fidfast, "_cuda")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(fidfast.cuda.importlib.util, "find_spec", lambda name: object())
    assert fidfast.cuda.info()["reason"] == "/x/_cuda.so: undefined symbol: cudaLaunchKernel"


# The first look -----------------------------------------------------------------------------------------------------


def test_the_first_look_is_short_and_taken_once(cuda, unseen):
    cuda.clear_calls()
    assert fidfast.cuda.extension(0) is unseen
    calls = cuda.calls()
    # Some 5 microseconds each on a GPU: 3 milliseconds.
    assert 50 < len(calls) < 600
    assert fidfast.cuda.extension(0) is unseen
    assert cuda.calls() == calls
    assert fidfast.cuda.why_not(0) is None


def test_tensor_cores_have_their_first_look_where_they_are_used(cuda, unseen, monkeypatch):
    asked = []
    cuda.set_device(1, single_to_double_ratio=64)
    monkeypatch.setattr(check, "first_problem", lambda *where: (asked.append(where), {})[1])
    for device in range(2):
        assert fidfast.cuda.extension(device) is unseen
    assert asked == [(unseen, 0, False), (_core, 0, False), (unseen, 1, True), (_core, 0, True)]
    assert [device["tensor_cores"] for device in fidfast.cuda.info()["devices"]] == [False, True]


def test_the_first_look_at_tensor_cores(cuda, unseen):
    """All sums of products are exact there; what is left is the rounding of weights and of means."""
    cuda.clear_calls()
    found = check.first_problem(unseen, 1, True)
    assert any("rank_update" in call.name for call in cuda.calls())
    assert found == pytest.approx(check.first_problem(_core, 0, True), rel=1e-13)
    assert len(found) == 4


def rows_on_device(rng):
    return DeviceArray(rng.standard_normal((9, 3)))


def assert_the_cpu_does_the_work(rows, match):
    """With one warning, and the same answer."""
    moments, expected = Moments(3), Moments(3)
    with pytest.warns(UserWarning, match=match) as caught:
        moments.update(rows)
    assert len(caught) == 1
    moments.update(rows)  # told once
    for _ in range(2):
        expected.update(rows.to_numpy())
    assert moments.device == "cpu"
    assert moments == expected
    with pytest.raises(RuntimeError, match=r"^cuda:0 cannot be used: it "):
        Moments(3, device="cuda:0")


def test_a_device_that_gives_another_answer_is_not_used(rng, unseen, monkeypatch):
    first_problem = check.first_problem

    def lies(*where):
        module = where[0]
        numbers = first_problem(*where)
        return {**numbers, "distance": 1.0} if module is unseen else {**numbers, "distance": 1.0 + 2e-9}

    monkeypatch.setattr(check, "first_problem", lies)
    match = (
        "^CUDA device 0 is not used, and the CPU does its work, since it does not agree with the CPU: "
        r"distance 1\.0 there, 1\.000000002 here\. Please report this with the output of `python -m fidfast\.cuda`$"
    )
    assert_the_cpu_does_the_work(rows_on_device(rng), match)


def test_not_a_number_is_another_answer(unseen, monkeypatch):
    numbers = {unseen: {"distance": float("nan")}, _core: {"distance": 1.0}}
    monkeypatch.setattr(check, "first_problem", lambda module, device, tensor_cores: numbers[module])
    with pytest.warns(UserWarning, match="distance nan there, 1.0 here"):
        assert fidfast.cuda.extension(0) is None


@pytest.mark.parametrize("error", [RuntimeError, ValueError, ZeroDivisionError])
def test_a_first_look_that_fails(rng, unseen, monkeypatch, error):
    """Wrong numbers may end in any error: features that hold NaN, a covariance that is none."""

    def fails(module, device, tensor_cores):
        if module is unseen:
            raise error("as if broken")

    monkeypatch.setattr(check, "first_problem", fails)
    assert_the_cpu_does_the_work(rows_on_device(rng), "since it fails: as if broken. Please report")


@pytest.mark.parametrize("name", ["cudaMalloc", "cublasDsyrk_v2", "cusolverDnXpotrf"])
def test_a_first_look_without_memory_is_taken_another_time(rng, cuda, unseen, name):
    """Others may give some back."""
    rows = rows_on_device(rng)
    cuda.clear_calls()
    check.first_problem(unseen, 0, False)
    place = [call.name for call in cuda.calls()].index(name) + 1
    status = {"cudaMalloc": OUT_OF_MEMORY, "cublasDsyrk_v2": 3, "cusolverDnXpotrf": 2}[name]
    described = len(calls_of(cuda, lambda: unseen.describe(0), unseen.device_count))
    moments = Moments(3)
    with cuda.failing(place + described, status) as happened, pytest.raises(MemoryError):
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
def test_a_call_that_fails_in_the_first_look(rng, cuda, unseen, count):
    rows = rows_on_device(rng)
    cuda.fail_call(count, LAUNCH_FAILURE)
    assert_the_cpu_does_the_work(rows, "since it fails: ")


# The report ---------------------------------------------------------------------------------------------------------


def test_the_report_as_a_user_runs_it(cuda, extension, monkeypatch, capsys):
    import runpy

    cuda.set_device_count(1)
    monkeypatch.setattr(sys, "argv", ["fidfast.cuda", "--dim", "8"])
    monkeypatch.delitem(sys.modules, "fidfast.cuda.__main__", raising=False)
    with pytest.raises(SystemExit) as left:
        runpy.run_module("fidfast.cuda", run_name="__main__")
    said = capsys.readouterr().out
    assert left.value.code == 0, said
    assert said.endswith("\nall agree\n")
    assert f"compiled for {extension.architectures}\n" in said
    assert "CUDA device 0\n  name                Stand-in 0\n" in said
    problems = [name for name, _ in check.problems(8)]
    assert len(problems) >= 9
    for name in problems:
        assert said.count(f"  {name} ") == 1


def test_the_report_of_a_device_that_does_not_agree(cuda, extension, monkeypatch, capsys):
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
    monkeypatch.setattr(check, "problems", lambda dim: problems.items())
    assert check.main(["--dim", "8"]) == 1
    lines = {line[2:40].strip(): line[40:] for line in capsys.readouterr().out.splitlines()}
    assert "TOO LARGE" not in lines["right"]
    assert "1.5e-11" in lines["wrong"]
    assert "TOO LARGE" in lines["wrong"]
    assert "TOO LARGE" in lines["not a number"]
    assert lines["failing"] == "fails: as if broken"


@pytest.mark.parametrize("built", [True, False])
def test_the_report_without_a_gpu(cuda, request, extension, capsys, built):
    if not built:
        request.getfixturevalue("not_built")
    cuda.set_driver("none")
    assert check.main([]) == 0
    reason = "no CUDA device: no driver" if built else "fidfast was built without a CUDA compiler"
    said = capsys.readouterr().out
    assert said.endswith(f"compiled for {extension.architectures if built else 'no GPU'}\n{reason}\n")


# The stub -----------------------------------------------------------------------------------------------------------


def test_the_stub_is_the_module(extension):
    """What it has of `_core`'s has the same members and arguments there; the rest is as in the stub."""
    import ast

    tree = ast.parse((test_house.PACKAGE / "_cuda.pyi").read_text(encoding="utf-8"))
    shared = {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == "fidfast._core"
        for alias in node.names
    }
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    variables = {node.target.id for node in tree.body if isinstance(node, ast.AnnAssign)}
    assert test_house.public(vars(extension)) == test_house.public(shared | set(functions) | variables)
    for name, node in functions.items():
        assert test_house.arguments(node) == test_house.arguments_of_doc(getattr(extension, name)), name
    for name in shared:
        ours, theirs = getattr(extension, name), getattr(_core, name)
        if not isinstance(ours, type):
            assert test_house.arguments_of_doc(ours) == test_house.arguments_of_doc(theirs), name
            continue
        members = {key for key in vars(ours) if not key.startswith("_")}
        assert members == {key for key in vars(theirs) if not key.startswith("_")}, name
        for key in members:
            if not isinstance(vars(ours)[key], property):
                same = [test_house.arguments_of_doc(getattr(side, key)) for side in (ours, theirs)]
                assert same[0] == same[1], f"{name}.{key}"
    assert extension.__version__ == _core.__version__
