"""The hand-written prototypes of cuBLAS and cuSOLVER are those of NVIDIA's headers, and its libraries have them all."""

import re
import subprocess
from pathlib import Path

import pytest
import standin_build
from binaries import ROOT, exported_functions, nvidia_folder, tool

LIBRARIES = ROOT / "csrc/cuda/libraries.hpp"
PROOF = Path(__file__).parent / "prototypes.cpp"


def names_in(macro):
    """Of the functions in one of the lists of libraries.hpp."""
    text = LIBRARIES.read_text(encoding="utf-8")
    entries = re.search(rf"#define {macro}\(X\).*?(?=\n\n)", text, re.DOTALL).group()
    return re.findall(r"X\((\w+),", entries)


@pytest.fixture(scope="module")
def compile_proof():
    """Compiles prototypes.cpp with libraries.hpp from another folder; gives what the compiler complains about."""
    try:
        headers = [standin_build.cuda_headers()]  # first: those of the packages are not complete without them
    except standin_build.UnavailableError as missing:
        pytest.skip(str(missing))
    headers += [nvidia_folder("include/cublas_v2.h"), nvidia_folder("include/cusolverDn.h")]
    compiler = tool("g++")

    def compile_proof(folder):
        options = [option for header in headers for option in ("-isystem", str(header))]
        command = [compiler, "-std=c++17", "-fsyntax-only", "-I", str(folder), *options, str(PROOF)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == ("error:" not in done.stderr), done.stderr
        return re.findall(r"error: (.*)", done.stderr)

    return compile_proof


def test_prototypes_and_constants_are_those_of_nvidias_headers(compile_proof):
    assert compile_proof(ROOT / "csrc") == []


@pytest.mark.parametrize(
    ("right", "wrong", "at_fault"),
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
def test_a_wrong_one_is_refused(compile_proof, tmp_path, right, wrong, at_fault):
    text = LIBRARIES.read_text(encoding="utf-8")
    assert text.count(right) == 1
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda/libraries.hpp").write_text(text.replace(right, wrong), encoding="utf-8")
    (complaint,) = compile_proof(tmp_path)
    assert complaint.startswith("static assertion failed: ")
    assert f"{at_fault} differs from" in complaint


def test_every_constant_is_proved():
    constants = re.findall(r"^constexpr int (k\w+) =", LIBRARIES.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(constants) == set(re.findall(r"^CONSTANT\((\w+),", PROOF.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(constants) > 0


@pytest.mark.parametrize(
    ("macro", "library"), [("FIDFAST_CUBLAS", "libcublas.so.*"), ("FIDFAST_CUSOLVER", "libcusolver.so.*")]
)
def test_nvidias_libraries_have_every_function(macro, library):
    names = names_in(macro)
    assert len(names) > 5
    (path,) = nvidia_folder(f"lib/{library}").glob(library)
    assert set(names) - exported_functions(path) == set()
