"""Every kind of error in a kernel is a Fault that names kernel, thread, instruction and reason."""

import numpy as np
import pytest

from ptx.host import compile_kernels, compiler, launch
from ptx.machine import Fault
from ptx.program import Program

SOURCE = r"""
#include <cstdint>

#define KERNEL extern "C" __global__ void

KERNEL missing_barrier(const double* x, double* y) {
  __shared__ double cells[64];
  cells[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = cells[threadIdx.x ^ 32];
}
KERNEL missing_barrier_before_reuse(const double* x, double* y) {
  __shared__ double cells[64];
  double sum = 0;
  for (int k = 0; k < 2; ++k) {
    cells[threadIdx.x] = x[threadIdx.x] + k;
    __syncthreads();
    sum += cells[threadIdx.x ^ 32];
  }
  y[threadIdx.x] = sum;
}
KERNEL missing_barrier_of_the_warp(const double* x, double* y) {
  __shared__ double cells[64];
  cells[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  const double next = cells[threadIdx.x ^ 1];
  cells[threadIdx.x] = next;
  __syncwarp();
  y[threadIdx.x] = cells[threadIdx.x ^ 1];
}
KERNEL barrier_of_the_warp_between_warps(const double* x, double* y) {
  __shared__ double cells[64];
  cells[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  y[threadIdx.x] = cells[threadIdx.x ^ 32];
}
KERNEL one_beyond(const double* x, int n, double* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) y[i] = x[i];
}
KERNEL one_before(const float* x, int n, float* y) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i - 1];
}
KERNEL shared_one_beyond(const float* x, float* y) {
  __shared__ float cells[31];
  cells[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = cells[threadIdx.x ^ 1];
}
KERNEL shared_into_the_next_array(const float* x, float* y) {
  __shared__ float cells[32], more[32];
  cells[threadIdx.x] = x[threadIdx.x];
  more[threadIdx.x] = -x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = (threadIdx.x % 2 ? cells : more)[threadIdx.x + int(x[0])];
}
KERNEL half_beyond(const float2* x, float2* y) { y[threadIdx.x] = x[threadIdx.x]; }
KERNEL one_of_two(const float* x, const float* y, float* z) {
  z[threadIdx.x] = (threadIdx.x % 2 ? x : y)[threadIdx.x];
}
KERNEL dynamic_shared_too_small(const float* x, float* y) {
  extern __shared__ float dynamic[];
  dynamic[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = dynamic[31 - threadIdx.x];
}
KERNEL reads_unwritten_global(double* y) { y[threadIdx.x] += 1; }
KERNEL reads_unwritten_shared(const float* x, float* y) {
  __shared__ float cells[32];
  if (threadIdx.x < 31) cells[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = cells[31 - threadIdx.x];
}
KERNEL reads_unwritten_local(const int* x, int* y) {
  int cells[8];
  for (int i = 0; i < x[0]; ++i) cells[x[i]] = i;
  y[threadIdx.x] = cells[x[threadIdx.x]];
}
KERNEL divergent_barrier(float* y) {
  if (threadIdx.x < 16) __syncthreads();
  y[threadIdx.x] = 1;
}
KERNEL two_barriers_for_one(float* x, float* y) {
  if (x[threadIdx.x] > 0) {
    y[threadIdx.x] = 1;
    __syncthreads();
    x[threadIdx.x] = 2;
  } else {
    y[threadIdx.x] = 3;
    __syncthreads();
    x[threadIdx.x] = 4;
  }
}
KERNEL divergent_shuffle(float* x) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 2) v += __shfl_xor_sync(0xffffffffu, v, 2);
  x[threadIdx.x] = v;
}
KERNEL shuffle_from_a_lane_outside_of_the_mask(float* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_down_sync(0xffffu, x[threadIdx.x], 1);
}
KERNEL half_a_warp_multiplies(float* y) {
  float c = 0;
  asm volatile("{ .reg .f32 d<4>; mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
               "{%0, d1, d2, d3}, {%1, %1}, {%1}, {%2, %2, %2, %2}; }" : "=f"(c) : "r"(0), "f"(0.f));
  y[threadIdx.x] = c;
}
KERNEL blocks_store_to_the_same_address(float* y) {
  if (threadIdx.x == 0) y[0] = 1;
}
KERNEL block_reads_the_store_of_another_block(float* y) {
  if (threadIdx.x == 0) y[(blockIdx.x + 1) % gridDim.x] = y[blockIdx.x] + 1;
}
KERNEL threads_store_the_same_value(float* y) { y[threadIdx.x / 2] = 1; }
KERNEL neighbour_reads_global(float* y) {
  y[threadIdx.x] = 1;
  y[threadIdx.x + 32] = y[threadIdx.x ^ 1];
}
KERNEL halves_of_a_word(uint16_t* y) {
  y[2 * threadIdx.x + 1] = 1;
  if (threadIdx.x == 0) reinterpret_cast<uint32_t*>(y)[1] = 7;
}
KERNEL misaligned_vector(const float* x, float4* y) {
  y[threadIdx.x] = *reinterpret_cast<const float4*>(x + 4 * threadIdx.x + 2);
}
KERNEL read_only_cache(float* y) {
  y[threadIdx.x] = 1;
  y[threadIdx.x + 32] = __ldg(y + threadIdx.x);
}
KERNEL atomic(float* y) { atomicAdd(y, 1.f); }
KERNEL approximate(float* y) { y[threadIdx.x] = __expf(y[threadIdx.x]); }
KERNEL endless(volatile int* y) {
  while (y[threadIdx.x] == 0) {}
}
KERNEL divides_by_zero(const int* x, int* y) { y[threadIdx.x] = 100 / x[threadIdx.x]; }
KERNEL __launch_bounds__(32) small_blocks(float* y) { y[threadIdx.x] = 1; }
"""


@pytest.fixture(scope="session", params=[pytest.param(80, marks=pytest.mark.slow), 100])
def faulty(request, tmp_path_factory):
    if compiler() is None:
        pytest.skip("nvcc is not on PATH")
    return compile_kernels(SOURCE, request.param, tmp_path_factory.mktemp("ptx"))


def ones(count: int, dtype=np.float32) -> np.ndarray:
    return np.ones(count, dtype)


UNWRITTEN = 77  # arrays of this value count as uninitialised


def result(count: int, dtype=np.float32) -> np.ndarray:
    return np.full(count, UNWRITTEN, dtype)


# kernel: (grid, block, arguments, pattern of the message)
CASES = {
    "missing_barrier": (1, 64, [ones(64, float), result(64, float)], "race: loads an address .* no barrier between"),
    "missing_barrier_before_reuse": (1, 64, [ones(64, float), result(64, float)], "race: stores to .* loaded from"),
    "missing_barrier_of_the_warp": (1, 64, [ones(64, float), result(64, float)], "race: stores to .* loaded from"),
    "barrier_of_the_warp_between_warps": (1, 64, [ones(64, float), result(64, float)], "race: loads an address"),
    "one_beyond": (2, 32, [ones(50, float), 50, result(50, float)], r"block \(1, 0, 0\), thread \(18, .*out of bounds"),
    "one_before": (2, 32, [ones(50), 50, result(50)], r"block \(0, 0, 0\), thread \(0, 0, 0\): .*out of bounds"),
    "shared_one_beyond": (1, 32, [ones(32), result(32)], r"thread \(31, .*out of bounds: no shared memory"),
    "shared_into_the_next_array": (1, 32, [ones(32), result(32)], r"thread \(31, .*out of bounds: no shared memory"),
    "half_beyond": (1, 16, [ones(31), ones(32)], r"thread \(15, .*out of bounds: 8 bytes"),
    "one_of_two": (1, 32, [result(32), ones(32), ones(32)], r"thread \(1, .*never written"),
    "dynamic_shared_too_small": (1, 32, [ones(32), result(32)], r"thread \(25, .*out of bounds: no shared memory"),
    "reads_unwritten_global": (1, 32, [result(32, float)], "reads memory that was never written"),
    "reads_unwritten_shared": (1, 32, [ones(32), result(32)], r"thread \(0, .*reads memory that was never written"),
    "reads_unwritten_local": (
        1,
        3,
        [np.array([2, 1, 5], np.int32), result(3, np.int32)],
        r"thread \((0|2), .*reads memory that was never written",
    ),
    "divergent_barrier": (1, 64, [result(64)], "bar.sync.*not converged: the barrier"),
    "two_barriers_for_one": (1, 2, [np.array([0, 1], np.float32), result(2)], "not converged: the barrier"),
    "divergent_shuffle": (1, 32, [ones(32)], "shfl.*not converged: the lanes of the mask"),
    "shuffle_from_a_lane_outside_of_the_mask": (1, 32, [ones(32)], r"thread \(15, .*a lane that does not take part"),
    "half_a_warp_multiplies": (1, 16, [result(16)], "needs all 32 threads"),
    "blocks_store_to_the_same_address": (2, 32, [result(1)], "race: stores to .* thread 0 of block [01] stored"),
    "block_reads_the_store_of_another_block": (3, 32, [ones(3)], "race: stores to .* loaded"),
    "threads_store_the_same_value": (1, 32, [result(16)], "race: stores to .* in the same instruction"),
    "neighbour_reads_global": (1, 32, [result(64)], "race: loads an address that thread"),
    "halves_of_a_word": (1, 4, [result(8, np.uint16)], r"thread \(0, .*race: stores to an address that thread 1 "),
    "misaligned_vector": (1, 4, [ones(32), result(16)], "misaligned: 16 bytes"),
    "read_only_cache": (1, 32, [result(64)], "read-only cache"),
    "atomic": (1, 32, [ones(1)], "unknown opcode: (atom|red)"),
    "approximate": (1, 32, [ones(32)], "ex2.*unknown opcode"),
    "endless": (1, 32, [0 * ones(32, np.int32)], "step limit"),
    "divides_by_zero": (1, 2, [np.array([1, 0], np.int32), result(2, np.int32)], r"thread \(1, .*by zero"),
    "small_blocks": (1, 64, [result(64)], "was not compiled for blocks of"),
}


@pytest.mark.parametrize("name", CASES)
def test_faulty_kernels(faulty, name):
    grid, block, arguments, reason = CASES[name]
    arguments = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    unwritten = [a for a in arguments if isinstance(a, np.ndarray) and (a == UNWRITTEN).all()]
    with pytest.raises(Fault, match=f"(?s)^{name}: .*{reason}"):
        launch(faulty[name], grid, block, *arguments, unwritten=unwritten, dynamic_shared_bytes=100, step_limit=5_000)


def program(*lines: str, registers: str = ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .pred %p<9>; .reg .b32 %f<9>;"):
    body = "\n".join(f"{line};" for line in lines)
    header = ".version 9.0\n.target sm_80\n.address_size 64\n"
    return f"{header}.visible .entry kernel(.param .u64 out)\n{{\n{registers}\n{body}\n}}\n"


def run(text: str, block=32):
    out = np.zeros(64)
    launch(Program(text).kernels["kernel"], 1, block, out)
    return out


ADDRESS = ("ld.param.u64 %rd1, [out]", "cvta.to.global.u64 %rd2, %rd1")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("add.s32 %r1, %r2, 1", "reads a register that was never written"),
        ("add.rz.f32 %f1, 0f00000000, 0f00000000", "unknown modifier: .rz"),
        ("add.sat.s32 %r1, 1, 1", "unknown modifier: .sat"),
        ("div.approx.f32 %f1, 0f00000000, 0f00000000", "only the correctly rounded form"),
        ("sqrt.approx.ftz.f32 %f1, 0f00000000", "only the correctly rounded form"),
        ("ld.global.cu.u32 %r1, [%rd2]", "unknown modifier: .cu"),
        ("ld.surface.u32 %r1, [%rd2]", "unknown modifier: .surface"),
        ("st.global.u32 [%rd2], out2", "unknown operand: out2"),
        ("mov.u32 %r1, %clock", "unknown register: %clock"),
        ("add.s32 %r10, 1, 1", "unknown register: %r10"),
        ("setp.lo.s32 %p1, 1, 1", "unknown comparison"),
        ("cvt.rp.f32.f64 %f1, 0d0000000000000000", "unknown rounding"),
        ("cvt.s32.f32 %r1, 0f00000000", "needs a rounding mode"),
        ("bar.sync 1", "only barrier 0"),
        ("bar.arrive 0, 32", "unknown form of a barrier"),
        ("bra nowhere", "unknown label: nowhere"),
        ("call foo", "unknown opcode: call"),
        ("cp.async.wait_all", "unknown opcode: cp"),
        ("shfl.sync.down.b32 %r1, 1, 1, 31, 3", "the lane is not in its own mask"),
        ("ld.global.v3.u32 {%r1, %r2, %r3}, [%rd2]", "unknown modifier: .v3"),
        ("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r1}, {%f1}", "unknown form of mma"),
        ("mov.u32 %r1, 1", "past the end of the kernel"),
    ],
)
def test_unsupported_instructions(line, reason):
    with pytest.raises(Fault, match=f"^kernel: .*{reason}"):
        run(program(*ADDRESS, line))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            program("ret").replace(".address_size 64", ".address_size 64\n.pragmatic 3;"),
            "unknown directive: .pragmatic",
        ),
        (program("here: ret", "here: ret"), "label here is defined twice"),
        (program(".strange 3", "ret"), "unknown directive or statement: .strange"),
        (program("ret").replace(".param .u64", ".param .texref"), "unknown parameter"),
        (program("ret").replace("(.param .u64 out)", "(.param .u64 out) .explicitcluster"), "unknown directive"),
        (program(".shared .align 4 .q8 x[3]", "ret"), "unknown variable"),
    ],
)
def test_unknown_directives(text, reason):
    with pytest.raises(Fault, match=reason):
        Program(text)


def test_a_register_that_only_some_threads_have_written():
    lines = ("mov.u32 %r1, %tid.x", "setp.lt.u32 %p1, %r1, 5", "@%p1 mov.u32 %r2, 1", "add.u32 %r3, %r2, 1", "ret")
    with pytest.raises(Fault, match=r"thread \(5, 0, 0\): `add.u32 %r3, %r2, 1`: reads a register that this thread"):
        run(program(*lines))


def test_a_copy_of_a_register_is_a_copy():
    lines = ("mov.u32 %r1, %tid.x", "mov.u32 %r2, %r1", "setp.lt.u32 %p1, %r1, 5", "@%p1 mov.u32 %r2, 9")
    store = ("mul.wide.u32 %rd3, %r1, 8", "add.s64 %rd4, %rd2, %rd3", "cvt.u64.u32 %rd5, %r1")
    out = run(program(*ADDRESS, *lines, *store, "st.global.u64 [%rd4], %rd5", "ret"))
    assert out[:32].view(np.uint64).tolist() == list(range(32))


def test_a_barrier_of_half_a_warp_does_not_order_the_other_half():
    cell = (".shared .align 4 .b8 cells[128]", "mov.u32 %r1, %tid.x", "shl.b32 %r2, %r1, 2", "mov.u32 %r3, cells")
    store = ("add.u32 %r4, %r3, %r2", "st.shared.u32 [%r4], %r1", "setp.lt.u32 %p1, %r1, 16")
    lines = (*cell, *store, "@%p1 bar.warp.sync 65535", "@%p1 ld.shared.u32 %r5, [%r4+64]", "ret")
    with pytest.raises(Fault, match="race: loads an address that thread 16 of this block stored to"):
        run(program(*lines))


def test_lanes_of_a_shuffle_must_agree_on_the_mask():
    lines = ("mov.u32 %r1, %tid.x", "setp.eq.u32 %p1, %r1, 0", "selp.b32 %r2, 3, 2, %p1")
    with pytest.raises(Fault, match="lanes of one mask name different masks"):
        run(program(*lines, "shfl.sync.idx.b32 %r3, %r1, 0, 31, %r2", "ret"), block=2)


def test_a_barrier_does_not_wait_for_threads_that_have_ended():
    lines = ("mov.u32 %r1, %tid.x", "setp.gt.u32 %p1, %r1, 40", "@%p1 bra end", "bar.sync 0", "end: ret")
    run(program(*lines), block=64)


def test_register_names_are_local_to_braces():
    store = ("st.global.f64 [%rd2], v", "ret")
    inner = "{ .reg .f64 v; mov.f64 v, 0d4000000000000000; }"
    text = program(*ADDRESS, ".reg .f64 v", "mov.f64 v, 0d3FF0000000000000", "INNER", *store).replace("INNER;", inner)
    assert run(text, block=1)[0] == 1


def test_the_module_with_the_newest_target_is_used():
    old = program(*ADDRESS, "st.global.f64 [%rd2], 0d3FF0000000000000", "ret")
    new = program(*ADDRESS, "st.global.f64 [%rd2], 0d4000000000000000", "ret").replace("sm_80", "sm_90")
    between = "\nFatbin ptx code:\n================\narch = sm_90\ncode version = [9,0]\nhost = linux\n\n"
    for text in between + old + between + new, new + between + old:
        assert run(text, block=1)[0] == 2
    with pytest.raises(Fault, match="two different kernels"):
        Program(old + new.replace("sm_90", "sm_80"))


def test_arguments_must_fit_the_parameters():
    from ptx.machine import launch as launch_bytes

    kernel = Program(program("ret")).kernels["kernel"]
    assert kernel.parameter_sizes == [8]
    with pytest.raises(Fault, match="arguments of"):
        launch_bytes(kernel, None, (1,), (1,), [b"1234"])
