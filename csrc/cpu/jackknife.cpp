// RowOps for the jackknife.
#include <vector>

#include "cpu/device.hpp"

namespace fidfast {

template <>
template <class T>
Matrix<Cpu, T> RowOps<Cpu>::rounded(const Matrix<Cpu>& a) {
  Matrix<Cpu, T> result(a.rows(), a.cols());
  for (Index i = 0; i < a.size(); ++i) result.data()[i] = static_cast<T>(a.data()[i]);
  return result;
}

template <>
template <class T>
void RowOps<Cpu>::deviations(const Matrix<Cpu, T>& centred, Index n, const Vector<Cpu>& r, const Vector<Cpu>& d,
                             std::vector<double>& squares, std::vector<double>& products) {
  squares.assign(static_cast<std::size_t>(n), 0.0);
  products.assign(static_cast<std::size_t>(n), 0.0);
  for (Index i = 0; i < n; ++i) {
    const T* const column = centred.column(i);
    double square = 0;
    double product = 0;
    for (Index j = 0; j < centred.rows(); ++j) {
      const double deviation = static_cast<double>(column[j]) - r.data()[j];
      square += deviation * deviation;
      product += deviation * d.data()[j];
    }
    squares[static_cast<std::size_t>(i)] = square;
    products[static_cast<std::size_t>(i)] = product;
  }
}

template <>
template <class T>
void RowOps<Cpu>::square_deviations(Matrix<Cpu, T>& a, Index n, const Vector<Cpu, T>& shift) {
  for (Index i = 0; i < n; ++i) {
    T* const column = a.column(i);
    for (Index j = 0; j < a.rows(); ++j) {
      const T deviation = column[j] - shift.data()[j];
      column[j] = deviation * deviation;
    }
  }
}

template <>
template <class T>
std::vector<double> RowOps<Cpu>::on_host(const Matrix<Cpu, T>& a, Index n) {
  return {a.data(), a.data() + a.rows() * n};
}

#define FIDFAST_JACKKNIFE(T)                                                                                  \
  template Matrix<Cpu, T> RowOps<Cpu>::rounded(const Matrix<Cpu>&);                                           \
  template void RowOps<Cpu>::deviations(const Matrix<Cpu, T>&, Index, const Vector<Cpu>&, const Vector<Cpu>&, \
                                        std::vector<double>&, std::vector<double>&);                          \
  template void RowOps<Cpu>::square_deviations(Matrix<Cpu, T>&, Index, const Vector<Cpu, T>&);                \
  template std::vector<double> RowOps<Cpu>::on_host(const Matrix<Cpu, T>&, Index);

FIDFAST_JACKKNIFE(float)
FIDFAST_JACKKNIFE(double)

}  // namespace fidfast
