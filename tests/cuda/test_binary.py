"""What was compiled is what ships: its architectures, what its kernels are made of, and what it loads."""

import re

import pytest
import standin_build
from binaries import ROOT, atomics_in, dynamic_entries, extension, local_memory_in, machine_code_in, output_of

CUBINS, PTX = ("sm_80", "sm_90", "sm_100"), "sm_100"
SHIPPED = "80-real 90-real 100"
#: What the names of kernels hold that claim tensor cores.
ON_TENSOR_CORES = "rank_update"


def cuobjdump(option):
    """What the tool tells of the extension; skips where it is missing, or the extension is built for other devices."""
    path = extension("_cuda")
    if f"\0{SHIPPED}\0".encode() not in path.read_bytes():
        pytest.skip(f"the extension is not built for {SHIPPED}, as it ships")
    try:
        return output_of(standin_build.cuobjdump(), option, path)
    except standin_build.UnavailableError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def machine_code():
    return machine_code_in(cuobjdump("-sass"))


def kernels_of_sources():
    """How many of the sources have kernels, each of which is compiled for every architecture."""
    return sum("launch(" in path.read_text() or "for_each" in path.read_text() for path in ROOT.glob("csrc/cuda/*.cu"))


def test_machine_code_for_three_architectures_and_ptx_for_those_to_come():
    assert re.findall(r"\.(sm_\w+)\.cubin", cuobjdump("-lelf")) == list(CUBINS) * kernels_of_sources()
    assert re.findall(r"\.(sm_\w+)\.ptx", cuobjdump("-lptx")) == [PTX] * kernels_of_sources()
    defaults = (ROOT / "cmake/cuda_architectures.cmake").read_text(encoding="utf-8")
    assert re.findall(r'"(.*?)"', defaults)[-1].replace(";", " ") == SHIPPED


def test_every_architecture_has_every_kernel(machine_code):
    kernels = {architecture: {name for there, name in machine_code if there == architecture} for architecture in CUBINS}
    assert len(machine_code) == sum(map(len, kernels.values()))
    assert len(kernels["sm_80"]) > 50
    assert kernels["sm_80"] == kernels["sm_90"] == kernels["sm_100"]
    for instructions in machine_code.values():
        assert "EXIT" in instructions
        assert len(instructions) > 10


def test_no_kernel_spills_or_keeps_arrays_in_memory(machine_code):
    resources = re.findall(r"Function (\S+):\n\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", cuobjdump("-res-usage"))
    assert len(resources) == len(machine_code)
    for name, registers, stack, local in resources:
        assert (stack, local) == ("0", "0"), name
        assert int(registers) < 255, name
    for (architecture, name), instructions in machine_code.items():
        assert local_memory_in(instructions) == [], (architecture, name)


def test_nothing_is_atomic(machine_code):
    """Sums have an order that depends on the sizes alone."""
    for (architecture, name), instructions in machine_code.items():
        assert atomics_in(instructions) == [], (architecture, name)


def test_tensor_cores_work_where_a_kernel_claims_them(machine_code):
    claiming = {place: code for place, code in machine_code.items() if ON_TENSOR_CORES in place[1]}
    if not claiming:
        pytest.skip(f"no kernel is named {ON_TENSOR_CORES}")
    assert {architecture for architecture, _ in claiming} == set(CUBINS)
    for instructions in claiming.values():
        # Exact products of both formats, summed in float32.
        assert "HMMA.16816.F32" in instructions
        assert "HMMA.16816.F32.BF16" in instructions
    for (_, name), instructions in machine_code.items():
        assert ON_TENSOR_CORES in name or not any(each.startswith("HMMA") for each in instructions), name


def test_the_extension_loads_the_runtime_and_finds_the_rest_itself():
    entries = dynamic_entries(extension("_cuda"))
    of_nvidia = [name for name in entries["NEEDED"] if re.search("cu|nv", name)]
    assert len(of_nvidia) == 1
    assert re.fullmatch(r"libcudart\.so\.1\d", of_nvidia[0])
    cmake = (ROOT / "cmake/cuda.cmake").read_text(encoding="utf-8")
    (folders,) = re.findall(r'INSTALL_RPATH\s+"(.*?)"', cmake)
    assert entries["RUNPATH"] == [folders.replace(";", ":")]
    assert entries["RPATH"] == []  # that would come before LD_LIBRARY_PATH, and serve the libraries of others
    assert all(folder.startswith("$ORIGIN/../nvidia/") for folder in folders.split(";"))


def test_the_core_needs_no_cuda():
    path = extension("_core")
    entries = dynamic_entries(path)
    assert "libc.so.6" in entries["NEEDED"]
    assert not [name for name in entries["NEEDED"] if re.search("cu|nv", name)]
    assert entries["RUNPATH"] == entries["RPATH"] == []
    assert b"libcu" not in path.read_bytes()
