"""The compiled extension: architectures, machine code of its kernels, and libraries that it loads."""

import re

import pytest
import standin_build
from binaries import ROOT, SHIPPED, atomics_in, dynamic_entries, extension, local_memory_in, machine_code_in, output_of

CUBINS, PTX = ("sm_80", "sm_90", "sm_100"), "sm_100"
#: Part of the names of kernels that use tensor cores.
ON_TENSOR_CORES = "rank_update_kernel"


def cuobjdump(*options):
    """Output of cuobjdump for the extension. Skips the test without the tool or with other architectures."""
    path = extension("_cuda")
    if f"\0{SHIPPED}\0".encode() not in path.read_bytes():
        pytest.skip(f"the extension is not built with FIDFAST_CUDA_ARCHITECTURES=all, for {SHIPPED}")
    try:
        return output_of(standin_build.cuobjdump(), *options, path)
    except standin_build.UnavailableError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def architectures(request):
    """All architectures with ``--all``, else one."""
    return CUBINS if request.config.getoption("--all") else CUBINS[:1]


@pytest.fixture(scope="module")
def machine_code(architectures):
    listings = [cuobjdump("-sass", "-arch", architecture) for architecture in architectures]
    return {kernel: code for listing in listings for kernel, code in machine_code_in(listing).items()}


def sources_with_kernels():
    """Number of source files with kernels. Each is compiled for every architecture."""
    return sum("launch(" in path.read_text() or "for_each" in path.read_text() for path in ROOT.glob("csrc/cuda/*.cu"))


def test_machine_code_for_three_architectures_and_ptx_for_later_ones():
    assert re.findall(r"\.(sm_\w+)\.cubin", cuobjdump("-lelf")) == list(CUBINS) * sources_with_kernels()
    assert re.findall(r"\.(sm_\w+)\.ptx", cuobjdump("-lptx")) == [PTX] * sources_with_kernels()
    text = (ROOT / "cmake/cuda_architectures.cmake").read_text(encoding="utf-8")
    of_wheels = text.partition("function(all_")[2].partition("endfunction")[0]
    assert re.findall(r'"(.*?)"', of_wheels)[-1].replace(";", " ") == SHIPPED


def test_every_architecture_has_every_kernel(machine_code, architectures):
    kernels = [{name for target, name in machine_code if target == architecture} for architecture in architectures]
    assert len(machine_code) == sum(map(len, kernels))
    assert len(kernels[0]) > 50
    assert all(names == kernels[0] for names in kernels)
    for instructions in machine_code.values():
        assert "EXIT" in instructions
        assert len(instructions) > 10


def test_no_kernel_uses_local_memory(machine_code, architectures):
    resources = re.findall(r"Function (\S+):\n\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", cuobjdump("-res-usage"))
    assert len(resources) == len(machine_code) * len(CUBINS) // len(architectures)
    for name, registers, stack, local in resources:
        assert (stack, local) == ("0", "0"), name
        assert int(registers) < 255, name
    for (architecture, name), instructions in machine_code.items():
        assert local_memory_in(instructions) == [], (architecture, name)


def test_no_kernel_uses_atomics(machine_code):
    """The order of sums depends on the sizes only."""
    for (architecture, name), instructions in machine_code.items():
        assert atomics_in(instructions) == [], (architecture, name)


def test_kernels_on_tensor_cores_use_mma_instructions(machine_code, architectures):
    on_tensor_cores = {kernel: code for kernel, code in machine_code.items() if ON_TENSOR_CORES in kernel[1]}
    assert {architecture for architecture, _ in on_tensor_cores} == set(architectures)
    for instructions in on_tensor_cores.values():
        # Products of both 16-bit formats, summed in float32.
        assert "HMMA.16816.F32" in instructions
        assert "HMMA.16816.F32.BF16" in instructions
    for (_, name), instructions in machine_code.items():
        assert ON_TENSOR_CORES in name or not any(each.startswith("HMMA") for each in instructions), name


def test_the_extension_links_to_the_runtime_only():
    """The other libraries are loaded at run time."""
    entries = dynamic_entries(extension("_cuda"))
    (nvidia_library,) = [name for name in entries["NEEDED"] if re.search("cu|nv", name)]
    assert re.fullmatch(r"libcudart\.so\.1\d", nvidia_library)
    cmake = (ROOT / "cmake/cuda.cmake").read_text(encoding="utf-8")
    (folders,) = re.findall(r'INSTALL_RPATH\s+"(.*?)"', cmake)
    assert entries["RUNPATH"] == [folders.replace(";", ":")]
    assert entries["RPATH"] == []  # would precede LD_LIBRARY_PATH and apply to other libraries
    assert all(folder.startswith("$ORIGIN/../nvidia/") for folder in folders.split(";"))


def test_the_core_does_not_depend_on_cuda():
    path = extension("_core")
    entries = dynamic_entries(path)
    assert "libc.so.6" in entries["NEEDED"]
    assert not [name for name in entries["NEEDED"] if re.search("cu|nv", name)]
    assert entries["RUNPATH"] == entries["RPATH"] == []
    assert b"libcu" not in path.read_bytes()
