// libcublas: the reference BLAS. Enumerations are passed as int and handles as pointers, as in NVIDIA's headers.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <utility>

#include "dense.hpp"
#include "library.hpp"

using namespace standin;

namespace {

constexpr int kVersion = 130101;
constexpr int kLower = 0, kUpper = 1;
constexpr int kNoTranspose = 0, kConjugateTranspose = 2;
constexpr int kLeft = 0, kRight = 1;
constexpr int kUnitDiagonal = 1;
constexpr int kDeviceScalars = 1;
constexpr int kHighestMathMode = 31;  // all the flags together

LibraryHandles& handles() {
  static auto* all =
      new LibraryHandles(Library::kBlas, "cublas handle");  // never destroyed: destructors may still use handles
  return *all;
}

void check_enum(int value, int highest, const char* name) {
  if (value < 0 || value > highest) throw Misuse(text(name, " is ", value));
}

Part part_of(int uplo) {
  check_enum(uplo, kUpper, "uplo");
  return uplo == kLower ? Part::kLower : Part::kUpper;
}

bool is_transposed(int operation) {
  check_enum(operation, kConjugateTranspose, "trans");
  return operation != kNoTranspose;
}

// alpha or beta: read from the host at the call, or from the device when the work runs.
template <class Number>
class Scalar {
 public:
  Scalar(const Number* value, const LibraryHandle& handle, const char* name) {
    if (value == nullptr) throw Misuse(text(name, " is null"));
    if (handle.scalars_on_device) {
      region_ = region(value, sizeof(Number), handle.device, name);
    } else {
      if (const Allocation* found = find(value); found != nullptr && !found->pinned)
        throw Misuse(text(name, " is in device memory, but the pointer mode says host"));
      value_ = *value;
    }
  }

  double value() const {
    Number number = value_;
    if (region_.bytes != 0) load(region_, 0, sizeof number, &number);
    return static_cast<double>(number);
  }

 private:
  Region region_;
  Number value_ = 0;
};

template <class Number>
DeviceMatrix<Number> operand(const LibraryHandle& handle, const Number* data, int rows, int columns, int leading,
                             const char* name) {
  return {data, rows, columns, leading, handle.device, name};
}

template <class Number>
void check_apart(const DeviceMatrix<Number>& output, const DeviceMatrix<Number>& input, const char* name) {
  if (output.overlaps(input)) throw Misuse(text("the output overlaps ", name));
}

Dense with_operation(const Dense& matrix, bool transpose) { return transpose ? transposed(matrix) : matrix; }

// (m, k) (k, n) -> (m, n)
Dense product(const Dense& left, const Dense& right) {
  Dense result(left.rows(), right.columns(), 0.0);
  for (std::int64_t j = 0; j < right.columns(); ++j)
    for (std::int64_t i = 0; i < left.rows(); ++i) {
      double sum = 0.0;
      for (std::int64_t p = 0; p < left.columns(); ++p) sum += left(i, p) * right(p, j);
      result(i, j) = sum;
    }
  return result;
}

// output := alpha * values + beta * output. The old output is read only if beta is not zero.
template <class Number>
void update(const DeviceMatrix<Number>& output, Part part, double alpha, const Dense& values, double beta) {
  const Dense old = beta == 0.0 ? Dense(output.rows(), output.columns(), 0.0) : output.load(part);
  Dense result(output.rows(), output.columns());
  for (std::int64_t j = 0; j < output.columns(); ++j)
    for (std::int64_t i = 0; i < output.rows(); ++i)
      if (holds(part, i, j)) result(i, j) = alpha * values(i, j) + (beta == 0.0 ? 0.0 : beta * old(i, j));
  output.store(result, part);
}

// The symmetric matrix of the stored triangle.
Dense load_symmetric(const DeviceMatrix<double>& matrix, Part part) {
  Dense result = matrix.load(part);
  for (std::int64_t j = 0; j < result.columns(); ++j)
    for (std::int64_t i = 0; i < result.rows(); ++i)
      if (!holds(part, i, j)) result(i, j) = result(j, i);
  return result;
}

// The stored triangle, with zeros in the other. The diagonal of a unit triangle is not read.
Dense load_triangle(const DeviceMatrix<double>& matrix, Part part, bool unit) {
  const Part read = !unit ? part : part == Part::kLower ? Part::kBelowDiagonal : Part::kAboveDiagonal;
  Dense result = matrix.load(read);
  for (std::int64_t j = 0; j < result.columns(); ++j)
    for (std::int64_t i = 0; i < result.rows(); ++i)
      if (!holds(read, i, j)) result(i, j) = i == j ? 1.0 : 0.0;
  return result;
}

// X with triangle X = right, by substitution.
Dense solution(const Dense& triangle, bool lower, const Dense& right) {
  const std::int64_t size = triangle.rows();
  Dense result = right;
  for (std::int64_t column = 0; column < right.columns(); ++column)
    for (std::int64_t step = 0; step < size; ++step) {
      const std::int64_t i = lower ? step : size - 1 - step;
      double value = right(i, column);
      for (std::int64_t k = lower ? 0 : i + 1; k < (lower ? i : size); ++k) value -= triangle(i, k) * result(k, column);
      result(i, column) = value / triangle(i, i);
    }
  return result;
}

template <class Number>
int gemm(const char* name, void* handle, int transa, int transb, int m, int n, int k, const Number* alpha,
         const Number* a, int lda, const Number* b, int ldb, const Number* beta, Number* c, int ldc) {
  return handles().call(name, handle, [&](const LibraryHandle& owner) {
    const bool a_transposed = is_transposed(transa);
    const bool b_transposed = is_transposed(transb);
    const auto left = operand(owner, a, a_transposed ? k : m, a_transposed ? m : k, lda, "A");
    const auto right = operand(owner, b, b_transposed ? n : k, b_transposed ? k : n, ldb, "B");
    const auto output = operand<Number>(owner, c, m, n, ldc, "C");
    check_apart(output, left, "A");
    check_apart(output, right, "B");
    const Scalar<Number> scale(alpha, owner, "alpha");
    const Scalar<Number> keep(beta, owner, "beta");
    enqueue(owner.queue(), name, [=] {
      const Dense values =
          product(with_operation(left.load(), a_transposed), with_operation(right.load(), b_transposed));
      update(output, Part::kAll, scale.value(), values, keep.value());
    });
    return 0;
  });
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) { return handles().create(__func__, handle); }
int cublasDestroy_v2(void* handle) { return handles().destroy(__func__, handle); }
int cublasSetStream_v2(void* handle, cudaStream_t stream) { return handles().set_stream(__func__, handle, stream); }

int cublasGetStream_v2(void* handle, cudaStream_t* stream) {
  return handles().call(__func__, handle, [&](const LibraryHandle& owner) {
    *stream = owner.stream;
    return 0;
  });
}

int cublasGetVersion_v2(void* handle, int* version) {
  return handles().call(__func__, handle, [&](const LibraryHandle&) {
    *version = kVersion;
    return 0;
  });
}

int cublasGetProperty(int type, int* value) {
  return guarded(Library::kBlas, {__func__, Kind::kNoDriver}, [&] {
    const int parts[] = {kVersion / 10000, kVersion / 100 % 100, kVersion % 100};
    *value = parts[type];
    return 0;
  });
}

int cublasSetPointerMode_v2(void* handle, int mode) {
  return handles().call(__func__, handle, [&](LibraryHandle& owner) {
    check_enum(mode, kDeviceScalars, "mode");
    owner.scalars_on_device = mode == kDeviceScalars;
    return 0;
  });
}

// The stand-in ignores the mode and computes in float64.
int cublasSetMathMode(void* handle, int mode) {
  return handles().call(__func__, handle, [&](const LibraryHandle&) {
    check_enum(mode, kHighestMathMode, "mode");
    return 0;
  });
}

int cublasDgemm_v2(void* handle, int transa, int transb, int m, int n, int k, const double* alpha, const double* a,
                   int lda, const double* b, int ldb, const double* beta, double* c, int ldc) {
  return gemm(__func__, handle, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int cublasSgemm_v2(void* handle, int transa, int transb, int m, int n, int k, const float* alpha, const float* a,
                   int lda, const float* b, int ldb, const float* beta, float* c, int ldc) {
  return gemm(__func__, handle, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int cublasDsyrk_v2(void* handle, int uplo, int trans, int n, int k, const double* alpha, const double* a, int lda,
                   const double* beta, double* c, int ldc) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    const Part part = part_of(uplo);
    const bool transpose = is_transposed(trans);
    const auto factor = operand(owner, a, transpose ? k : n, transpose ? n : k, lda, "A");
    const auto output = operand<double>(owner, c, n, n, ldc, "C");
    check_apart(output, factor, "A");
    const Scalar<double> scale(alpha, owner, "alpha");
    const Scalar<double> keep(beta, owner, "beta");
    enqueue(owner.queue(), name, [=] {
      const Dense rows = with_operation(factor.load(), transpose);
      update(output, part, scale.value(), product(rows, transposed(rows)), keep.value());
    });
    return 0;
  });
}

int cublasDsymm_v2(void* handle, int side, int uplo, int m, int n, const double* alpha, const double* a, int lda,
                   const double* b, int ldb, const double* beta, double* c, int ldc) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    check_enum(side, kRight, "side");
    const Part part = part_of(uplo);
    const int size = side == kLeft ? m : n;
    const auto symmetric = operand(owner, a, size, size, lda, "A");
    const auto other = operand(owner, b, m, n, ldb, "B");
    const auto output = operand<double>(owner, c, m, n, ldc, "C");
    check_apart(output, symmetric, "A");
    check_apart(output, other, "B");
    const Scalar<double> scale(alpha, owner, "alpha");
    const Scalar<double> keep(beta, owner, "beta");
    enqueue(owner.queue(), name, [=] {
      const Dense full = load_symmetric(symmetric, part);
      const Dense values = side == kLeft ? product(full, other.load()) : product(other.load(), full);
      update(output, Part::kAll, scale.value(), values, keep.value());
    });
    return 0;
  });
}

// C = alpha op(A) B or alpha B op(A); C may be B itself.
int cublasDtrmm_v2(void* handle, int side, int uplo, int trans, int diag, int m, int n, const double* alpha,
                   const double* a, int lda, const double* b, int ldb, double* c, int ldc) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    check_enum(side, kRight, "side");
    check_enum(diag, kUnitDiagonal, "diag");
    const Part part = part_of(uplo);
    const bool transpose = is_transposed(trans);
    const int size = side == kLeft ? m : n;
    const auto triangle = operand(owner, a, size, size, lda, "A");
    const auto other = operand(owner, b, m, n, ldb, "B");
    const auto output = operand<double>(owner, c, m, n, ldc, "C");
    check_apart(output, triangle, "A");
    if (!output.is(other)) check_apart(output, other, "B");
    const Scalar<double> scale(alpha, owner, "alpha");
    enqueue(owner.queue(), name, [=] {
      const Dense factor = with_operation(load_triangle(triangle, part, diag == kUnitDiagonal), transpose);
      const Dense values = side == kLeft ? product(factor, other.load()) : product(other.load(), factor);
      update(output, Part::kAll, scale.value(), values, 0.0);
    });
    return 0;
  });
}

// Solves op(A) X = alpha B or X op(A) = alpha B; X overwrites B.
int cublasDtrsm_v2(void* handle, int side, int uplo, int trans, int diag, int m, int n, const double* alpha,
                   const double* a, int lda, double* b, int ldb) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    check_enum(side, kRight, "side");
    check_enum(diag, kUnitDiagonal, "diag");
    const Part part = part_of(uplo);
    const bool transpose = is_transposed(trans);
    const int size = side == kLeft ? m : n;
    const auto triangle = operand(owner, a, size, size, lda, "A");
    const auto output = operand<double>(owner, b, m, n, ldb, "B");
    check_apart(output, triangle, "A");
    const Scalar<double> scale(alpha, owner, "alpha");
    enqueue(owner.queue(), name, [=] {
      const Dense factor = with_operation(load_triangle(triangle, part, diag == kUnitDiagonal), transpose);
      const bool lower = (part == Part::kLower) != transpose;
      const Dense right = output.load();
      // X T = B is T^T X^T = B^T.
      const Dense values = side == kLeft ? solution(factor, lower, right)
                                         : transposed(solution(transposed(factor), !lower, transposed(right)));
      update(output, Part::kAll, scale.value(), values, 0.0);
    });
    return 0;
  });
}

// C = alpha op(A) + beta op(B). A matrix with factor zero is not read and may be null, as documented. C may be A or B
// if that is not transposed.
int cublasDgeam(void* handle, int transa, int transb, int m, int n, const double* alpha, const double* a, int lda,
                const double* beta, const double* b, int ldb, double* c, int ldc) {
  return handles().call(__func__, handle, [&, name = __func__](const LibraryHandle& owner) {
    const bool a_transposed = is_transposed(transa);
    const bool b_transposed = is_transposed(transb);
    const Scalar<double> a_scale(alpha, owner, "alpha");
    const Scalar<double> b_scale(beta, owner, "beta");
    const auto output = operand<double>(owner, c, m, n, ldc, "C");
    const auto term = [&](const double* data, bool transpose, int leading, const Scalar<double>& scale,
                          const char* matrix_name) {
      if (!owner.scalars_on_device && scale.value() == 0.0) return DeviceMatrix<double>();
      const auto matrix = operand(owner, data, transpose ? n : m, transpose ? m : n, leading, matrix_name);
      if (transpose || !output.is(matrix)) check_apart(output, matrix, matrix_name);
      return matrix;
    };
    const auto first = term(a, a_transposed, lda, a_scale, "A");
    const auto second = term(b, b_transposed, ldb, b_scale, "B");
    enqueue(owner.queue(), name, [=] {
      const auto values_of = [&](const DeviceMatrix<double>& matrix, bool transpose, double scale) {
        return scale == 0.0 ? Dense(m, n, 0.0) : with_operation(matrix.load(), transpose);
      };
      const double a_factor = a_scale.value();
      const double b_factor = b_scale.value();
      const Dense a_values = values_of(first, a_transposed, a_factor);
      const Dense b_values = values_of(second, b_transposed, b_factor);
      Dense sum(m, n);
      for (std::int64_t j = 0; j < n; ++j)
        for (std::int64_t i = 0; i < m; ++i) sum(i, j) = a_factor * a_values(i, j) + b_factor * b_values(i, j);
      output.store(sum);
    });
    return 0;
  });
}

}  // extern "C"
