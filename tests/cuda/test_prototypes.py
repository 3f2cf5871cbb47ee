"""The declared prototypes of cuBLAS and cuSOLVER match NVIDIA's headers, and its libraries export all functions."""

import re
import subprocess
from pathlib import Path

import pytest
import standin_build
from binaries import ROOT, exported_functions, nvidia_folder, tool

LIBRARIES = ROOT / "csrc/cuda/libraries.hpp"
CHECK = Path(__file__).parent / "prototypes.cpp"


def names_in(macro):
    """Names of the functions in one of the lists of libraries.hpp."""
    text = LIBRARIES.read_text(encoding="utf-8")
    entries = re.search(rf"#define {macro}\(X\).*?(?=\n\n)", text, re.DOTALL).group()
    return re.findall(r"X\((\w+),", entries)


@pytest.fixture(scope="module")
def compile_check():
    """Compiles prototypes.cpp with libraries.hpp from another folder. Returns the error messages of the compiler."""
    try:
        headers = [standin_build.cuda_headers()]  # first: the headers of the packages include them
    except standin_build.UnavailableError as missing:
        pytest.skip(str(missing))
    headers += [nvidia_folder("include/cublas_v2.h"), nvidia_folder("include/cusolverDn.h")]
    compiler = tool("g++")

    def compile_check(folder):
        options = [option for header in headers for option in ("-isystem", str(header))]
        command = [compiler, "-std=c++17", "-fsyntax-only", "-I", str(folder), *options, str(CHECK)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == ("error:" not in done.stderr), done.stderr
        return re.findall(r"error: (.*)", done.stderr)

    return compile_check


def test_prototypes_and_constants_match_nvidias_headers(compile_check):
    assert compile_check(ROOT / "csrc") == []


@pytest.mark.grid(keep=2)
@pytest.mark.parametrize(
    ("correct", "wrong", "name"),
    [
        ("cublasCreate_v2, int(BlasHandle*)", "cublasCreate_v2, int(BlasHandle)", "cublasCreate_v2"),
        ("cublasCreate_v2, int(", "cublasCreate_v2, void(", "cublasCreate_v2"),
        ("X(cublasDgeam, int(BlasHandle, int, int, int, int,", "X(cublasDgeam, int(BlasHandle, int, int, int,",
         "cublasDgeam"),
        ("X(cublasDgeam, int(BlasHandle, int, int, int, int, const double*,",
         "X(cublasDgeam, int(BlasHandle, int, int, int, int, double*,", "cublasDgeam"),
        ("cusolverDnXpotrf, int(SolverHandle, SolverParams, int, std::int64_t",
         "cusolverDnXpotrf, int(SolverHandle, SolverParams, int, int", "cusolverDnXpotrf"),
        ("cusolverDnXpotrf, int(SolverHandle, SolverParams, int, std::int64_t, cudaDataType",
         "cusolverDnXpotrf, int(SolverHandle, SolverParams, int, std::int64_t, int", "cusolverDnXpotrf"),
        ("cusolverGetVersion, int(int*)", "cusolverGetVersion, int(long*)", "cusolverGetVersion"),
        ("SetStream_v2, int(BlasHandle, cudaStream_t)", "SetStream_v2, int(BlasHandle, cudaEvent_t)",
         "cublasSetStream_v2"),
        ("kFillLower = 0", "kFillLower = 1", "kFillLower"),
        ("kValuesAndVectors = 1", "kValuesAndVectors = 2", "kValuesAndVectors"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_detected(compile_check, tmp_path, correct, wrong, name):
    text = LIBRARIES.read_text(encoding="utf-8")
    assert text.count(correct) == 1
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda/libraries.hpp").write_text(text.replace(correct, wrong), encoding="utf-8")
    (message,) = compile_check(tmp_path)
    assert message.startswith("static assertion failed: ")
    assert f"{name} differs from" in message


def test_every_constant_is_checked():
    constants = re.findall(r"^constexpr int (k\w+) =", LIBRARIES.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(constants) == set(re.findall(r"^CONSTANT\((\w+),", CHECK.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(constants) > 0


@pytest.mark.parametrize(
    ("macro", "library"), [("FIDFAST_CUBLAS", "libcublas.so.*"), ("FIDFAST_CUSOLVER", "libcusolver.so.*")]
)
def test_nvidias_libraries_have_every_function(macro, library):
    names = names_in(macro)
    assert len(names) > 5
    (path,) = nvidia_folder(f"lib/{library}").glob(library)
    assert set(names) - exported_functions(path) == set()
