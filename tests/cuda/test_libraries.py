"""Error messages when cuBLAS, cuSOLVER or one of their functions is missing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from standin_build import cxx_compiler

HERE = Path(__file__).parent

WITHOUT_LIBRARIES = """
import ctypes, json, sys, warnings
for name in ("libcublas.so.13", "libcublas.so.12"):
    try:
        ctypes.CDLL(name)
    except OSError:
        continue
    print(json.dumps("found"))
    raise SystemExit
import numpy as np
import standin, standin_build
standin_build.SONAMES = standin_build.SONAMES[:1]
cuda = standin.load()
for name in sys.argv[2:]:
    ctypes.CDLL(name)
import fidfast
fidfast._cuda = standin.import_extension("fidfast._cuda", sys.argv[1])
from device_arrays import DeviceArray
rows = np.random.default_rng(1).standard_normal((9, 3))
moments, expected = fidfast.Moments(3), fidfast.Moments(3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    moments.update(DeviceArray(rows))
    moments.update(DeviceArray(rows))
    try:
        fidfast.Moments(3, device="cuda:1")
    except RuntimeError as error:
        message = str(error)
for _ in range(2):
    expected.update(rows)
assert moments.device == "cpu" and moments == expected
assert set(cuda.live().values()) == {0}, cuda.live()
info = fidfast.cuda.info()
assert info["available"] and info["libraries"] == {"error": message.split("self-test failed: ")[1]}, info
print(json.dumps([[str(warning.message) for warning in caught], message]))
"""


def run_without_libraries(extension, folder, *loaded):
    """The warning and the error of a copy of the extension in `folder`, where no NVIDIA packages are found."""
    copied = folder / Path(extension.__file__).name
    copied.write_bytes(Path(extension.__file__).read_bytes())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_LIBRARIES, *map(str, [copied, *loaded])],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stderr
    output = json.loads(done.stdout)
    if output == "found":
        pytest.skip("cuBLAS is installed system-wide")
    (warning, _), error = output  # one warning for each device
    return warning, error


def test_missing_libraries_are_named(extension, tmp_path):
    warning, error = run_without_libraries(extension, tmp_path)
    advice = "install the packages nvidia-cublas and nvidia-cusolver, or a CUDA toolkit"
    assert warning.startswith("CUDA device 0 is not used: its self-test failed: cannot load libcublas.so.13")
    assert advice in warning
    assert "python -m fidfast.cuda" in warning
    assert error.startswith("cuda:1 cannot be used: its self-test failed: cannot load libcublas.so.13")
    assert advice in error


def test_missing_functions_are_named(extension, tmp_path):
    """Libraries of another version raise an error when they are loaded and do not crash at a later call."""
    source = tmp_path / "old.cpp"
    source.write_text(
        'extern "C" int cublasCreate_v2() { return 1; }\nextern "C" int cusolverDnCreate() { return 1; }\n'
    )
    libraries = [tmp_path / name for name in ("libcublas.so.13", "libcusolver.so.12")]
    for library in libraries:
        command = [cxx_compiler(), "-shared", "-fPIC", f"-Wl,-soname,{library.name}", source, "-o", library]
        subprocess.run(command, check=True)
    warning, error = run_without_libraries(extension, tmp_path, *libraries)
    reason = "its self-test failed: the CUDA libraries of this process have no cublasDestroy_v2"
    assert reason in warning
    assert error == f"cuda:1 cannot be used: {reason}"
