"""Options of the build, and its rejection of slow kernels and warnings."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import standin_build
from binaries import ROOT, SHIPPED, atomics_in, local_memory_in, machine_code_in, output_of, tool

FAULTY = Path(__file__).parent / "build_faults.cu"


class Build:
    """A build tree that is configured, but not built."""

    def __init__(self, folder, compiler_of_cuda=None, **options):
        pytest.importorskip("pybind11")
        environment = dict(os.environ)
        if compiler_of_cuda is not None:
            environment["CUDACXX"] = str(compiler_of_cuda)
        command = [
            tool("cmake"),
            "-S",
            ROOT,
            "-B",
            folder,
            "-G",
            "Ninja" if shutil.which("ninja") else "Unix Makefiles",
        ]
        options = {"Python_EXECUTABLE": sys.executable, **options}  # CMake finds that of an activated environment
        command += [f"-D{name}={value}" for name, value in options.items()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        self.succeeded = done.returncode == 0
        self.output = done.stdout + done.stderr
        commands = folder / "compile_commands.json"
        entries = json.loads(commands.read_text(encoding="utf-8")) if self.succeeded else []
        self.commands = {
            Path(entry["file"]).relative_to(ROOT).as_posix(): shlex.split(entry["command"]) for entry in entries
        }

    def sources(self, folder):
        return {source for source in self.commands if source.startswith(folder)}


@pytest.fixture(scope="module")
def with_cuda(tmp_path_factory):
    tool("nvcc")
    options = {"FIDFAST_CUDA": "ON", "FIDFAST_CUDA_ARCHITECTURES": "90-real;86"}
    built = Build(tmp_path_factory.mktemp("on"), **options)
    assert built.succeeded, built.output
    return built


@pytest.fixture(scope="module")
def without_cuda(tmp_path_factory):
    built = Build(tmp_path_factory.mktemp("off"), FIDFAST_CUDA="OFF")
    assert built.succeeded, built.output
    return built


def test_off_builds_the_same_core_without_cuda(with_cuda, without_cuda):
    assert without_cuda.sources("csrc/cuda") == set()
    assert without_cuda.sources("csrc/bindings") == {"csrc/bindings/core.cpp", "csrc/bindings/core_moments.cpp"}
    assert "CUDA" not in without_cuda.output
    for source, command in without_cuda.commands.items():
        assert command == with_cuda.commands[source], source
    extra = set(with_cuda.commands) - set(without_cuda.commands)
    assert extra == {"csrc/bindings/cuda.cpp", *with_cuda.sources("csrc/cuda")}
    in_tree = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc/cuda").glob("*.c*")}
    assert with_cuda.sources("csrc/cuda") == in_tree - {"csrc/cuda/kernels.cuh"}


def test_auto_without_a_compiler_builds_without_cuda(tmp_path, without_cuda):
    built = Build(tmp_path, tmp_path / "no/nvcc")  # AUTO is the default
    assert built.succeeded
    assert "Looking for a CUDA compiler - NOTFOUND" in built.output
    assert built.commands == without_cuda.commands


@pytest.mark.slow
def test_auto_with_a_compiler_builds_cuda(tmp_path, with_cuda):
    built = Build(tmp_path, FIDFAST_CUDA="AUTO")
    assert built.sources("csrc") == with_cuda.sources("csrc")


def test_on_without_a_compiler_fails(tmp_path):
    built = Build(tmp_path, tmp_path / "no/nvcc", FIDFAST_CUDA="ON")
    assert not built.succeeded
    assert "no/nvcc" in built.output
    assert "environment variable CUDACXX" in " ".join(built.output.split())  # CMake wraps lines


def test_architectures_option(with_cuda):
    for source in with_cuda.sources("csrc/cuda"):
        if source.endswith(".cu"):
            command = " ".join(with_cuda.commands[source])
            found = re.findall(r"generate-code=arch=(\w+),code=\[([\w,]+)\]", command)
            assert {(virtual, *sorted(real.split(","))) for virtual, real in found} == {
                ("compute_90", "sm_90"),
                ("compute_86", "compute_86", "sm_86"),
            }
    (claim,) = re.findall(
        r'-DFIDFAST_CUDA_ARCHITECTURES="(.*?)"', " ".join(with_cuda.commands["csrc/bindings/cuda.cpp"])
    )
    assert claim == "90-real 86"


def architectures(folder, call, **options):
    """What a function of cuda_architectures.cmake returns."""
    script = folder / "ask.cmake"
    script.write_text(f'include({ROOT}/cmake/cuda_architectures.cmake)\n{call}\nmessage("${{found}}")\n')
    done = subprocess.run([tool("cmake"), "-P", script], capture_output=True, text=True, check=True, **options)
    return done.stderr.strip()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("12.0.140", "80-real;90"),
        ("12.6", "80-real;90"),
        ("12.8.61", "80-real;90-real;100"),
        ("13.2", "80-real;90-real;100"),
    ],
)
def test_architectures_of_wheels_depend_on_the_compiler(tmp_path, version, expected):
    assert architectures(tmp_path, f"all_cuda_architectures({version} found)") == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ("9.0", "90-real;80-virtual"),
        ("8.9\n8.9\n10.0", "100-real;89-real;80-virtual"),
        ("7.5\n13.7", "80-virtual"),  # too old; unknown to the compiler
        ("No devices were found", "80-virtual"),
        (None, "80-virtual"),
    ],
)
def test_a_build_from_source_is_for_the_gpus_of_this_machine(tmp_path, capabilities, expected):
    programs = {
        "nvidia-smi": f"printf '{capabilities}\n'" if capabilities else "exit 9",
        "nvcc": "printf 'compute_80\ncompute_89\ncompute_90\ncompute_100\n'",
    }
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    assert architectures(tmp_path, f"local_cuda_architectures({tmp_path}/nvcc found)", env=environment) == expected


def test_all_architectures_are_those_of_the_wheels(tmp_path):
    tool("nvcc")
    built = Build(tmp_path, FIDFAST_CUDA="ON", FIDFAST_CUDA_ARCHITECTURES="all")
    command = " ".join(built.commands["csrc/cuda/rows.cu"])
    wanted = re.findall(r"\d+", SHIPPED)
    assert re.findall(r"generate-code=arch=compute_(\d+)", command) == wanted
    assert f"--threads={len(wanted)}" in command


def compile_faulty(command, fault, target):
    """Compile a kernel of build_faults.cu with the command of another source. Returns the success and the output."""
    changed = [part for part in command if "generate-code" not in part]
    changed[changed.index("-c") + 1] = str(FAULTY)
    changed[changed.index("-o") + 1] = str(target)
    changed += [f"-D{fault}", "-gencode=arch=compute_90,code=sm_90"]
    done = subprocess.run(changed, capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("SPILLS", "Registers are spilled to local memory"),
        ("ARRAY_IN_MEMORY", "Local memory used"),
        ("UNUSED", "unused"),
    ],
)
def test_slow_kernels_and_warnings_are_errors(with_cuda, tmp_path, fault, message):
    succeeded, output = compile_faulty(with_cuda.commands["csrc/cuda/elements.cu"], fault, tmp_path / "faulty.o")
    assert not succeeded
    assert message.lower() in output.lower()


@pytest.mark.slow
def test_a_correct_kernel_compiles(with_cuda, tmp_path):
    succeeded, output = compile_faulty(with_cuda.commands["csrc/cuda/elements.cu"], "CORRECT", tmp_path / "correct.o")
    assert succeeded, output


@pytest.mark.grid(keep=1)
@pytest.mark.parametrize("fault", ["SPILLS", "ARRAY_IN_MEMORY", "ATOMIC"])
def test_checks_of_the_machine_code_detect_faults(tmp_path, fault):
    cubin = tmp_path / "faulty.cubin"
    output_of(tool("nvcc"), "-arch=sm_90", "-cubin", f"-D{fault}", FAULTY, "-o", cubin)
    try:
        listing = output_of(standin_build.cuobjdump(), "-sass", cubin)
    except standin_build.UnavailableError as missing:
        pytest.skip(str(missing))
    (instructions,) = machine_code_in(listing).values()
    assert bool(local_memory_in(instructions)) == (fault != "ATOMIC")
    kinds = {re.match("[A-Z]+", each).group() for each in atomics_in(instructions)}
    assert bool(kinds) == (fault == "ATOMIC"), instructions
