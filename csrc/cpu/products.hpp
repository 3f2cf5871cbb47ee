// Products of BLAS in panels that take a fraction of a second each, so that they can be interrupted in between. Up to
// kPanel multiplications they are a single call. Arguments are those of BLAS, column-major; T is float or double.
#pragma once

#include <algorithm>
#include <type_traits>

#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "cpu/lapack.hpp"

namespace fidfast::blas {

/// Multiplications in a panel: a slow core needs half a second, and half of a product of dim 2048 is one panel.
constexpr double kPanel = 4e9;

/// Calls work(first, count) for panels of [0, n), where each index needs `each` multiplications.
template <class Work>
void in_panels(Index n, double each, const Work& work) {
  constexpr Index kLeast = 64;  // narrower products are slow
  const double most = std::min(kPanel / std::max(each, 1.0), static_cast<double>(std::max<Index>(n, 1)));
  const Index size = std::max(kLeast, static_cast<Index>(most));
  for (Index first = 0; first < n; first += size) {
    check_interrupt();
    work(first, std::min(size, n - first));
  }
}

inline double product_of(Index a, Index b) { return static_cast<double>(a) * static_cast<double>(b); }

template <class Library, class T>
void gemm_call(const Library& lib, char trans_a, char trans_b, Index m, Index n, Index k, T alpha, const T* a,
               Index lda, const T* b, Index ldb, T beta, T* c, Index ldc) {
  const auto rows = lib.size(m);
  const auto columns = lib.size(n);
  const auto inner = lib.size(k);
  const auto stride_a = lib.size(lda);
  const auto stride_b = lib.size(ldb);
  const auto stride_c = lib.size(ldc);
  const auto call = [&](const auto& routine) {
    routine(&trans_a, &trans_b, &rows, &columns, &inner, &alpha, a, &stride_a, b, &stride_b, &beta, c, &stride_c);
  };
  if constexpr (std::is_same_v<T, float>) call(lib.sgemm);
  if constexpr (std::is_same_v<T, double>) call(lib.dgemm);
}

/// c (m, n) = alpha op(a) op(b) + beta c, with k terms.
template <class Library, class T>
void gemm(const Library& lib, char trans_a, char trans_b, Index m, Index n, Index k, T alpha, const T* a, Index lda,
          const T* b, Index ldb, T beta, T* c, Index ldc) {
  in_panels(n, product_of(m, k), [&](Index first, Index count) {
    const T* const from = b + (trans_b == 'N' ? first * ldb : first);
    gemm_call(lib, trans_a, trans_b, m, count, k, alpha, a, lda, from, ldb, beta, c + first * ldc, ldc);
  });
}

/// c (n, n) = alpha a a^T + beta c, or alpha a^T a + beta c if trans is 'T', with k terms; lower triangle.
template <class Library, class T>
void syrk(const Library& lib, char trans, Index n, Index k, T alpha, const T* a, Index lda, T beta, T* c, Index ldc) {
  in_panels(n, product_of(n, k) / 2, [&](Index first, Index count) {
    const auto order = lib.size(count);
    const auto terms = lib.size(k);
    const auto stride_a = lib.size(lda);
    const auto stride_c = lib.size(ldc);
    const Index step = trans == 'N' ? 1 : lda;
    const T* const own = a + first * step;
    T* const diagonal = c + first * ldc + first;
    const auto call = [&](const auto& routine) {
      routine("L", &trans, &order, &terms, &alpha, own, &stride_a, &beta, diagonal, &stride_c);
    };
    if constexpr (std::is_same_v<T, float>) call(lib.ssyrk);
    if constexpr (std::is_same_v<T, double>) call(lib.dsyrk);
    const Index below = n - first - count;
    const char other = trans == 'N' ? 'T' : 'N';
    if (below == 0) return;
    gemm_call(lib, trans, other, below, count, k, alpha, own + count * step, lda, own, lda, beta, diagonal + count,
              ldc);
  });
}

/// c (m, n) = a b with symmetric a (m, m), lower triangle.
template <class Library>
void symm(const Library& lib, Index m, Index n, const double* a, Index lda, const double* b, Index ldb, double* c,
          Index ldc) {
  in_panels(n, product_of(m, m), [&](Index first, Index count) {
    const auto rows = lib.size(m);
    const auto columns = lib.size(count);
    const auto stride_a = lib.size(lda);
    const auto stride_b = lib.size(ldb);
    const auto stride_c = lib.size(ldc);
    const double one = 1.0;
    const double zero = 0.0;
    lib.dsymm("L", "L", &rows, &columns, &one, a, &stride_a, b + first * ldb, &stride_b, &zero, c + first * ldc,
              &stride_c);
  });
}

/// b (m, n) = l^T b for lower triangular l (m, m).
template <class Library>
void trmm_left(const Library& lib, Index m, Index n, const double* l, Index ldl, double* b, Index ldb) {
  in_panels(n, product_of(m, m) / 2, [&](Index first, Index count) {
    const auto rows = lib.size(m);
    const auto columns = lib.size(count);
    const auto stride_l = lib.size(ldl);
    const auto stride_b = lib.size(ldb);
    const double one = 1.0;
    lib.dtrmm("L", "L", "T", "N", &rows, &columns, &one, l, &stride_l, b + first * ldb, &stride_b);
  });
}

/// b (m, n) = b l for lower triangular l (n, n).
template <class Library>
void trmm_right(const Library& lib, Index m, Index n, const double* l, Index ldl, double* b, Index ldb) {
  in_panels(m, product_of(n, n) / 2, [&](Index first, Index count) {
    const auto rows = lib.size(count);
    const auto columns = lib.size(n);
    const auto stride_l = lib.size(ldl);
    const auto stride_b = lib.size(ldb);
    const double one = 1.0;
    lib.dtrmm("R", "L", "N", "N", &rows, &columns, &one, l, &stride_l, b + first, &stride_b);
  });
}

/// c (n, n) += a^T b + b^T a for a and b (k, n); lower triangle.
template <class Library>
void syr2k(const Library& lib, Index n, Index k, const double* a, Index lda, const double* b, Index ldb, double* c,
           Index ldc) {
  in_panels(n, product_of(n, k), [&](Index first, Index count) {
    const auto order = lib.size(count);
    const auto terms = lib.size(k);
    const auto stride_a = lib.size(lda);
    const auto stride_b = lib.size(ldb);
    const auto stride_c = lib.size(ldc);
    const double one = 1.0;
    const double* const a1 = a + first * lda;
    const double* const b1 = b + first * ldb;
    double* const diagonal = c + first * ldc + first;
    lib.dsyr2k("L", "T", &order, &terms, &one, a1, &stride_a, b1, &stride_b, &one, diagonal, &stride_c);
    const Index below = n - first - count;
    if (below == 0) return;
    const double* const a2 = a1 + count * lda;
    const double* const b2 = b1 + count * ldb;
    gemm_call(lib, 'T', 'N', below, count, k, one, a2, lda, b1, ldb, one, diagonal + count, ldc);
    gemm_call(lib, 'T', 'N', below, count, k, one, b2, ldb, a1, lda, one, diagonal + count, ldc);
  });
}

}  // namespace fidfast::blas
