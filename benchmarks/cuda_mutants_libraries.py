"""Faults in what is asked of cuBLAS and cuSOLVER."""

from benchmarks.cuda_mutants import Mutant

LINALG, ROWS = "cuda/linalg.cu", "cuda/rows.cu"

BOTH_TRIANGLES = (
    "Covariances are kept with both triangles, so that either says the same; the verb promises to read the lower."
)

LIBRARIES = [
    Mutant("dgemm: rows and columns of the product exchanged", LINALG, "op_a, op_b, size(rows), size(cols), size(inner)",
           "op_a, op_b, size(cols), size(rows), size(inner)"),
    Mutant("dgemm: leading dimension of the product", LINALG, "&kZero, c.data(), size(rows)),", "&kZero, c.data(), size(cols)),"),
    Mutant("dgemm: b is not transposed where it should be", LINALG, "return multiply(kTranspose, a, kNoTranspose, b);",
           "return multiply(kTranspose, a, kTranspose, b);"),
    Mutant("dsyrk: uplo", LINALG, "cublasDsyrk_v2(blas, kFillLower, op,", "cublasDsyrk_v2(blas, 1 - kFillLower, op,"),
    Mutant("dsyrk: k is n", LINALG, "size(op == kNoTranspose ? a.cols() : a.rows())", "size(op == kNoTranspose ? a.rows() : a.cols())"),
    Mutant("dsyrk: beta is one", LINALG, "&alpha, a.data(), size(a.rows()), &beta, c.data(), size(c.rows())", "&alpha, a.data(), size(a.rows()), &kOne, c.data(), size(c.rows())"),
    Mutant("dtrmm: a unit diagonal", LINALG, "cublasDtrmm_v2(blas, side, kFillLower, op, kNonUnitDiagonal,", "cublasDtrmm_v2(blas, side, kFillLower, op, 1,"),
    Mutant("dtrmm: the other triangle", LINALG, "cublasDtrmm_v2(blas, side, kFillLower, op,", "cublasDtrmm_v2(blas, side, 1, op,"),
    Mutant("dgeam: the unwritten result counts", LINALG, "size(a.rows()), &kZero, result.data()", "size(a.rows()), &kOne, result.data()"),
    Mutant("dsymm: the other triangle", LINALG, "cublasDsymm_v2(blas, kSideLeft, kFillLower,", "cublasDsymm_v2(blas, kSideLeft, 1,",
           equivalent=BOTH_TRIANGLES),
    Mutant("dtrsm: with the transpose", LINALG, "kSideLeft, kFillLower, kNoTranspose, kNonUnitDiagonal, size(rank),", "kSideLeft, kFillLower, kTranspose, kNonUnitDiagonal, size(rank),"),
    Mutant("the diagonal is cleared with the upper triangle", LINALG, "if (i < j) numbers[i + j * rows] = 0;", "if (i <= j) numbers[i + j * rows] = 0;"),
    Mutant("the upper triangle is not cleared", LINALG, "if (i < j) numbers[i + j * rows] = 0;", "if (i > rows) numbers[i + j * rows] = 0;"),
    Mutant("the workspace is too small", LINALG, "Matrix<Cuda, char>(static_cast<Index>(on_device), 1)", "Matrix<Cuda, char>(static_cast<Index>(on_device - on_device / 8), 1)"),
    Mutant("there is no workspace on the host", LINALG, "    host.resize(on_host);\n", ""),
    Mutant("info of the eigenproblem is ignored", LINALG, '  require_success(work.outcome(), "cusolverDnXsyevd");\n', ""),
    Mutant("syevd: the other triangle", LINALG, "cusolverDnXsyevd(solver, params, job, kFillLower, n", "cusolverDnXsyevd(solver, params, job, 1, n",
           equivalent=BOTH_TRIANGLES),
    Mutant("syevd: vectors where values would do", LINALG, "return eigenproblem(cuda::kValuesOnly, a);", "return eigenproblem(cuda::kValuesAndVectors, a);",
           equivalent="The same values, in a multiple of the time: nothing that a test without a GPU could tell."),
    Mutant("syevd: float32", LINALG, "cusolverDnXsyevd(solver, params, job, kFillLower, n, CUDA_R_64F,", "cusolverDnXsyevd(solver, params, job, kFillLower, n, CUDA_R_32F,"),
    Mutant("syevd: its status is ignored", LINALG, "check_solver(libraries().cusolverDnXsyevd(", "check_solver(0 * libraries().cusolverDnXsyevd("),
    Mutant("gesvd: all of U", LINALG, "const signed char job = vectors ? 'S' : 'N';", "const signed char job = vectors ? 'A' : 'N';"),
    Mutant("gesvd: leading dimension of U", LINALG, "CUDA_R_64F, u.data(), m, CUDA_R_64F, vt.data(), n, CUDA_R_64F, work.device.data(),", "CUDA_R_64F, u.data(), n, CUDA_R_64F, vt.data(), n, CUDA_R_64F, work.device.data(),"),
    Mutant("a triangle is not transposed", LINALG, "multiply_by_triangle(kSideLeft, kTranspose, l, b);\n  return b;", "multiply_by_triangle(kSideLeft, kNoTranspose, l, b);\n  return b;"),
    Mutant("the congruence takes half of the matrix for all", LINALG, "  mirror_lower(s, 1.0);\n  multiply_by_triangle(kSideLeft", "  multiply_by_triangle(kSideLeft",
           equivalent=BOTH_TRIANGLES),
    Mutant("outer products have one triangle", LINALG, "0.0, c);\n  mirror_lower(c, 1.0);\n", "0.0, c);\n"),
    Mutant("an outer product is added instead of subtracted", LINALG, "rank_update(kNoTranspose, -1.0, a, 1.0, c);", "rank_update(kNoTranspose, 1.0, a, 1.0, c);"),
    Mutant("potrf: the other triangle", LINALG, "cusolverDnXpotrf(solver, params, kFillLower, n", "cusolverDnXpotrf(solver, params, 1, n"),
    Mutant("potrf: an indefinite matrix is taken as definite", LINALG, "const bool definite = work.outcome() == 0;", "const bool definite = work.outcome() >= 0;"),
    Mutant("the norm is of half the inverse", LINALG, "  mirror_lower(whole, 1.0);\n", ""),
    Mutant("signs cancel in the norm", LINALG, "return fabs(numbers[i + j * rank]);", "return numbers[i + j * rank];"),
    Mutant("left singular vectors for right ones", LINALG, "right = transposed(vt);", "right = std::move(vt);"),
    Mutant("a factor with pivots keeps its upper triangle", LINALG, "cuda::pivoted_cholesky(a, tolerance, order);\n  clear_upper(a);", "cuda::pivoted_cholesky(a, tolerance, order);"),
    Mutant("the scatter's dsyrk: uplo", ROWS, "cublasDsyrk_v2(blas, cuda::kFillLower,", "cublasDsyrk_v2(blas, 1 - cuda::kFillLower,"),
    Mutant("the scatter's dsyrk: the scatter is overwritten", ROWS, "centred.data(), static_cast<int>(dim), &one,", "centred.data(), static_cast<int>(dim), std::vector<double>{0}.data(),"),
    Mutant("the scatter's dsyrk: leading dimension of the rows", ROWS, "centred.data(), static_cast<int>(dim),", "centred.data(), static_cast<int>(n),"),
    Mutant("the scatter's dsyrk: its status is ignored", ROWS, "check_blas(cuda::libraries().cublasDsyrk_v2(", "check_blas(0 * cuda::libraries().cublasDsyrk_v2("),
    Mutant("distances without rows: products are added up", ROWS, "b.data(), dim, &zero,", "b.data(), dim, &one,"),
]  # fmt: skip
