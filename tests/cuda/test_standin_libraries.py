"""cuBLAS and cuSOLVER of the stand-in, compared with NumPy, and their checks of arguments."""

from ctypes import c_void_p

import numpy as np
import pytest
import scipy.linalg
from device_arrays import DeviceArray
from library_calls import (
    LEFT,
    LOWER,
    NO_TRANSPOSE,
    RIGHT,
    TRANSPOSE,
    UPPER,
    Libraries,
    column_major,
    only_triangle,
    triangle,
)

EPS = np.finfo(np.float64).eps
INVALID_VALUE_OF_BLAS, INVALID_VALUE_OF_SOLVER = 7, 3
LAUNCH_FAILURE = 719
BOTH = pytest.mark.parametrize("uplo", [LOWER, UPPER], ids=["lower", "upper"])
OPERATIONS = pytest.mark.parametrize("trans", [NO_TRANSPOSE, TRANSPOSE], ids=["n", "t"])
SIDES = pytest.mark.parametrize("side", [LEFT, RIGHT], ids=["left", "right"])


@pytest.fixture
def libraries(cuda):
    made = Libraries(cuda)
    yield made
    cuda.reset()
    made.close()


def operand(values, trans):
    """The array from which the operation `trans` gives `values`."""
    return np.ascontiguousarray(values.T) if trans else values


def close(result, expected, terms=64):
    """Equal up to the rounding of sums of `terms` terms of order one."""
    np.testing.assert_allclose(result, expected, rtol=0, atol=8 * terms * EPS * max(1.0, np.abs(expected).max()))


@OPERATIONS
@BOTH
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_syrk(libraries, rng, uplo, trans, beta):
    a, c = rng.normal(size=(5, 7)), rng.normal(size=(5, 5))
    factor = column_major(operand(a, trans), padding=2)
    output = column_major(only_triangle(c, uplo), padding=1) if beta else column_major_scratch((5, 5))
    assert libraries.blas_status("cublasDsyrk_v2", uplo, trans, 5, 7, 2.0, factor, beta, output) == 0
    assert libraries.finish() == 0
    result = output.to_numpy()
    close(triangle(result, uplo), triangle(2 * a @ a.T + beta * c, uplo))
    assert np.isnan(result[triangle(np.ones((5, 5)), uplo) == 0]).all()  # the other triangle is not written


def column_major_scratch(shape, dtype=np.float64, **options):
    return DeviceArray(shape, dtype, layout="F", **options)


@pytest.mark.grid(keep=8)
@pytest.mark.parametrize("name", ["cublasDgemm_v2", "cublasSgemm_v2"])
@pytest.mark.parametrize("trans_b", [NO_TRANSPOSE, TRANSPOSE])
@OPERATIONS
@pytest.mark.parametrize("beta", [0.0, -1.5])
def test_gemm(libraries, rng, name, trans, trans_b, beta):
    dtype = np.float64 if name == "cublasDgemm_v2" else np.float32
    a, b, c = (rng.normal(size=shape).astype(dtype) for shape in ((4, 6), (6, 3), (4, 3)))
    output = column_major(c, padding=2) if beta else column_major_scratch((4, 3), dtype)
    first, second = column_major(operand(a, trans), padding=1), column_major(operand(b, trans_b))
    assert libraries.blas_status(name, trans, trans_b, 4, 3, 6, 0.5, first, second, beta, output) == 0
    assert libraries.finish() == 0
    expected = 0.5 * a.astype(float) @ b.astype(float) + beta * c
    np.testing.assert_allclose(output.to_numpy(), expected, rtol=0, atol=64 * np.finfo(dtype).eps)


@SIDES
@BOTH
def test_symm(libraries, rng, side, uplo):
    a, b, c = rng.normal(size=(4, 4)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    a += a.T
    b, c = (b, c) if side == LEFT else (b.T, c.T)
    stored, other, output = column_major(only_triangle(a, uplo), padding=1), column_major(b), column_major(c)
    m, n = b.shape
    assert libraries.blas_status("cublasDsymm_v2", side, uplo, m, n, 2.0, stored, other, 1.0, output) == 0
    assert libraries.finish() == 0
    close(output.to_numpy(), 2 * (a @ b if side == LEFT else b @ a) + c)


@pytest.mark.grid(keep=12)
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("unit", [0, 1])
@SIDES
@BOTH
@OPERATIONS
def test_trmm(libraries, rng, side, uplo, trans, unit, in_place):
    a, b = rng.normal(size=(4, 4)), rng.normal(size=(4, 3) if side == LEFT else (3, 4))
    stored, other = column_major(only_triangle(a, uplo)), column_major(b, padding=2)
    output = other if in_place else column_major_scratch(b.shape)
    arguments = side, uplo, trans, unit, *b.shape, 3.0, stored, other, output
    assert libraries.blas_status("cublasDtrmm_v2", *arguments) == 0
    assert libraries.finish() == 0
    factor = triangle(a, uplo)
    if unit:
        np.fill_diagonal(factor, 1.0)
    factor = factor.T if trans else factor
    close(output.to_numpy(), 3 * (factor @ b if side == LEFT else b @ factor))


@pytest.mark.grid(keep=8)
@pytest.mark.parametrize("unit", [0, 1])
@SIDES
@BOTH
@OPERATIONS
def test_trsm(libraries, rng, side, uplo, trans, unit):
    a = rng.normal(size=(4, 4)) + 4 * np.eye(4)
    b = rng.normal(size=(4, 3) if side == LEFT else (3, 4))
    output = column_major(b, padding=1)
    arguments = side, uplo, trans, unit, *b.shape, 2.0, column_major(only_triangle(a, uplo)), output
    assert libraries.blas_status("cublasDtrsm_v2", *arguments) == 0
    assert libraries.finish() == 0
    factor = triangle(a, uplo)
    if unit:
        np.fill_diagonal(factor, 1.0)
    factor = factor.T if trans else factor
    solution = output.to_numpy()
    close(factor @ solution if side == LEFT else solution @ factor, 2 * b)


@OPERATIONS
def test_geam(libraries, rng, trans):
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    second = column_major(b, padding=1)
    first = column_major(operand(a, trans))
    assert libraries.blas_status("cublasDgeam", trans, 0, 4, 3, 2.0, first, -1.0, second, second) == 0  # in place
    assert libraries.finish() == 0
    close(second.to_numpy(), 2 * a - b)
    unread = column_major_scratch((4, 3))
    output = column_major_scratch((4, 3))
    assert libraries.blas_status("cublasDgeam", trans, 0, 4, 3, 1.0, first, 0.0, unread, output) == 0
    assert libraries.finish() == 0
    close(output.to_numpy(), a)


@BOTH
def test_potrf(libraries, rng, uplo):
    root = rng.normal(size=(9, 9))
    a = root @ root.T + np.eye(9)
    stored, info = column_major(only_triangle(a, uplo), padding=3), DeviceArray((1,), np.int32)
    assert libraries.potrf(uplo, stored, info) == 0
    assert info.to_numpy() == -1  # nothing has run
    assert libraries.finish() == 0
    assert info.to_numpy() == 0
    result = stored.to_numpy()
    factor = triangle(result, uplo)
    close(factor @ factor.T if uplo == LOWER else factor.T @ factor, a, terms=9 * 9)
    assert np.isnan(result[triangle(np.ones((9, 9)), uplo) == 0]).all()


@BOTH
def test_potrf_of_an_indefinite_matrix_returns_the_order_of_the_minor(libraries, rng, uplo):
    a = np.eye(5)
    a[3, 3] = -1.0
    stored, info = column_major(a), DeviceArray((1,), np.int32)
    assert libraries.potrf(uplo, stored, info) == 0
    assert libraries.finish() == 0
    assert info.to_numpy() == scipy.linalg.lapack.dpotrf(a, lower=uplo == LOWER)[1] == 4


@pytest.mark.parametrize("vectors", [0, 1])
@BOTH
def test_syevd(libraries, rng, uplo, vectors):
    a = rng.normal(size=(12, 12))
    a += a.T
    stored, w, info = column_major(only_triangle(a, uplo), padding=1), DeviceArray((12,)), DeviceArray((1,), np.int32)
    assert libraries.syevd(vectors, uplo, stored, w, info) == 0
    assert libraries.finish() == 0
    assert info.to_numpy() == 0
    values = w.to_numpy()
    close(values, np.linalg.eigvalsh(a))
    assert (np.diff(values) >= 0).all()
    result = stored.to_numpy()
    if vectors:
        close(a @ result, result * values)
        close(result.T @ result, np.eye(12))
    else:
        assert np.isnan(result).all()  # destroyed


def test_syevd_of_repeated_and_zero_eigenvalues(libraries):
    for a in (np.zeros((4, 4)), np.ones((6, 6)), np.diag([1e-300, 1.0, 1.0, 1e20])):
        n = len(a)
        stored, w, info = column_major(a), DeviceArray((n,)), DeviceArray((1,), np.int32)
        assert libraries.syevd(1, LOWER, stored, w, info) == 0
        assert libraries.finish() == 0
        close(w.to_numpy(), np.linalg.eigvalsh(a))


@pytest.mark.parametrize("jobs", ["NN", "SS", "AA", "AN", "NS"])
@pytest.mark.parametrize("rank", [4, 2])
def test_gesvd(libraries, rng, jobs, rank):
    a = rng.normal(size=(7, rank)) @ rng.normal(size=(rank, 4))
    input_, s, info = column_major(a, padding=2), DeviceArray((4,)), DeviceArray((1,), np.int32)
    u = {"N": None, "S": column_major_scratch((7, 4)), "A": column_major_scratch((7, 7), row_padding=1)}[jobs[0]]
    vt = None if jobs[1] == "N" else column_major_scratch((4, 4))
    assert libraries.gesvd(jobs, input_, s, u, vt, info) == 0
    assert libraries.finish() == 0
    assert info.to_numpy() == 0
    values = s.to_numpy()
    close(values, np.linalg.svd(a, compute_uv=False))
    assert np.isnan(input_.to_numpy()).all()
    if u is not None:
        left = u.to_numpy()
        close(left.T @ left, np.eye(left.shape[1]))
        if vt is not None:
            close(left[:, :4] * values @ vt.to_numpy(), a)


def test_gesvd_rejects_wide_matrices(libraries, cuda, rng):
    arrays = column_major(rng.normal(size=(3, 4))), DeviceArray((3,)), None, None, DeviceArray((1,), np.int32)
    assert libraries.gesvd("NN", *arrays) == INVALID_VALUE_OF_SOLVER
    assert "at least as many rows as columns" in cuda.reasons()[-1]


def test_injected_failure_of_a_factorisation(libraries, cuda):
    cuda.set_solver_info(7)
    stored, w, info = column_major(np.eye(3)), DeviceArray((3,)), DeviceArray((1,), np.int32)
    assert libraries.syevd(0, LOWER, stored, w, info) == 0
    assert libraries.finish() == 0
    assert info.to_numpy() == 7
    assert np.isnan(w.to_numpy()).all()


def test_workspaces_are_checked_and_overwritten(libraries, cuda):
    stored, info = column_major(np.eye(3)), DeviceArray((1,), np.int32)
    assert libraries.potrf(LOWER, stored, info, shortage=1) == INVALID_VALUE_OF_SOLVER
    assert "are needed" in cuda.reasons()[-1]
    assert libraries.potrf(LOWER, stored, info) == 0
    assert libraries.finish() == 0
    assert (libraries.last_workspace.to_numpy().view(np.uint8)[:64] == 0x5A).all()
    large = DeviceArray((1000,), np.int32)
    assert libraries.potrf(LOWER, stored, large[3:4], workspace=large) == INVALID_VALUE_OF_SOLVER
    assert "info overlaps the workspace" in cuda.reasons()[-1]


def test_leading_dimensions_and_sizes_are_checked(libraries, cuda):
    a, c = column_major(np.ones((4, 4))), column_major(np.ones((4, 4)))
    syrk = "cublasDsyrk_v2", LOWER, NO_TRANSPOSE
    assert libraries.blas_status(*syrk, 4, 4, 1.0, c_void_p(a.address), 3, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert "leading dimension 3" in cuda.reasons()[-1]
    assert libraries.blas_status(*syrk, 4, 5, 1.0, a, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert "A reaches 32 bytes past the end" in cuda.reasons()[-1]
    assert libraries.blas_status(*syrk, -1, 4, 1.0, a, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert libraries.blas_status("cublasDsyrk_v2", 2, 0, 4, 4, 1.0, a, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert "uplo is 2" in cuda.reasons()[-1]
    assert libraries.blas_status(*syrk, 4, 4, 1.0, c, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert "the output overlaps A" in cuda.reasons()[-1]
    assert cuda.pending() == 0


def test_uninitialised_matrices_must_not_be_read(libraries, cuda, rng):
    a, c = column_major(rng.normal(size=(4, 4))), column_major_scratch((4, 4))
    arguments = "cublasDsyrk_v2", LOWER, NO_TRANSPOSE, 4, 4, 1.0, a
    assert libraries.blas_status(*arguments, 1.0, c) == 0  # beta = 1 reads C
    assert libraries.finish() == LAUNCH_FAILURE
    assert "C: byte 0 is read but was never written" in cuda.reasons()[-1]


def test_interleaved_matrices_do_not_overlap(libraries, rng):
    """The upper and lower halves of one array: their address ranges overlap, their elements do not."""
    both = column_major(rng.normal(size=(8, 3)))
    top = both.to_numpy()[:4]
    arguments = NO_TRANSPOSE, NO_TRANSPOSE, 4, 3, 2.0, both, 0.0, both, both[4:]
    assert libraries.blas_status("cublasDgeam", *arguments) == 0
    assert libraries.finish() == 0
    close(both.to_numpy(), np.vstack([top, 2 * top]))


def test_mixed_devices_are_rejected(libraries, cuda):
    here, there = column_major(np.ones((3, 3))), column_major(np.ones((3, 3)), device=1)
    syrk = "cublasDsyrk_v2", LOWER, NO_TRANSPOSE, 3, 3, 1.0
    assert libraries.blas_status(*syrk, there, 0.0, here) == INVALID_VALUE_OF_BLAS
    assert "A is memory of device 1, the call is for device 0" in cuda.reasons()[-1]
    cuda.current_device = 1
    assert libraries.blas_status(*syrk, here, 0.0, here) == INVALID_VALUE_OF_BLAS
    assert "a handle of device 0 while device 1 is current" in cuda.reasons()[-1]


def test_a_handle_with_a_destroyed_stream_is_rejected(libraries, cuda):
    other = cuda.new_stream()
    cuda.call("cublasSetStream_v2", libraries.blas, c_void_p(other))
    cuda.destroy_stream(other)
    a, c = column_major(np.ones((2, 2))), column_major_scratch((2, 2))
    assert libraries.blas_status("cublasDsyrk_v2", LOWER, NO_TRANSPOSE, 2, 2, 1.0, a, 0.0, c) == INVALID_VALUE_OF_BLAS
    assert "destroyed stream" in cuda.reasons()[-1]
