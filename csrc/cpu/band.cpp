// First stage of tridiagonalization: reduces a symmetric matrix to a band matrix. Works on contiguous tiles of kBand
// rows and columns; nearly all of the work is products of tiles.
#include "cpu/band.hpp"

#ifdef FIDFAST_WIDE

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/parallel.hpp"

namespace fidfast {

namespace {

using M = Matrix<Cpu>;

FIDFAST_WIDE_BEGIN

constexpr Index kTile = kBand * kBand;  // elements of a tile, row-major

/// c += op(a) b for tiles: op(a) is a for kDown = kBand and kAlong = 1, and a^T for kDown = 1 and kAlong = kBand.
template <Index kDown, Index kAlong>
inline void add_product_of(const double* a, const double* b, double* c) {
  for (Index i = 0; i < kBand; i += 4, c += 4 * kBand, a += 4 * kDown) {
    Block c0 = Block::load(c);
    Block c1 = Block::load(c + kBand);
    Block c2 = Block::load(c + 2 * kBand);
    Block c3 = Block::load(c + 3 * kBand);
    for (Index k = 0; k < kBand; ++k) {
      const Block row = Block::load(b + k * kBand);
      c0.add(a[k * kAlong], row);
      c1.add(a[k * kAlong + kDown], row);
      c2.add(a[k * kAlong + 2 * kDown], row);
      c3.add(a[k * kAlong + 3 * kDown], row);
    }
    c0.store(c);
    c1.store(c + kBand);
    c2.store(c + 2 * kBand);
    c3.store(c + 3 * kBand);
  }
}

/// c += a b.
void add_product(const double* a, const double* b, double* c) { add_product_of<kBand, 1>(a, b, c); }

/// c += a^T b.
void add_transposed_product(const double* a, const double* b, double* c) { add_product_of<1, kBand>(a, b, c); }

/// to = factor from^T.
void transpose(double factor, const double* from, double* to) {
  for (Index i = 0; i < kBand; ++i) {
    for (Index j = 0; j < kBand; ++j) to[j * kBand + i] = factor * from[i * kBand + j];
  }
}

/// QR factorisation of a panel of m rows of kBand numbers by Householder reflectors: Q = I - V T V^T. V replaces the
/// panel; T and R^T are tiles. Each column takes one pass over the panel, which applies the last reflector and computes
/// the products of the next column with all others; those with earlier columns give T.
void factor_panel(double* panel, Index m, double* t, double* r_transposed) {
  std::fill_n(t, kTile, 0.0);
  std::fill_n(r_transposed, kTile, 0.0);
  Block products = Block::zero();  // of the column, below its diagonal, with all columns
  for (Index i = 1; i < m; ++i) products.add(panel[i * kBand], Block::load(panel + i * kBand));
  for (Index c = 0; c < kBand; ++c) {
    double* const top = panel + c * kBand;
    double sums[kBand];
    products.store(sums);
    const double alpha = top[c];
    const double squares = sums[c];
    const bool clear = squares == 0;
    const double beta = clear ? alpha : -std::copysign(std::sqrt(alpha * alpha + squares), alpha);
    const double scale = clear ? 0 : 1 / (alpha - beta);
    const double tau = clear ? 0 : (beta - alpha) / beta;
    // Column c becomes v = (1, scale x); change_q v is added to each column q > c.
    double keep[kBand];
    double change[kBand];
    for (Index q = 0; q < kBand; ++q) {
      sums[q] = top[q] + scale * sums[q];  // column q times v
      keep[q] = q == c ? 0 : 1;
      change[q] = q < c ? 0 : q == c ? 1 : -tau * sums[q];
    }
    for (Index p = 0; p < c; ++p) {
      double sum = 0;
      for (Index q = p; q < c; ++q) sum += t[p * kBand + q] * sums[q];
      t[p * kBand + c] = -tau * sum;
    }
    t[c * kBand + c] = tau;
    for (Index q = c; q < kBand; ++q) {
      r_transposed[q * kBand + c] = q == c ? beta : top[q] + change[q];
      top[q] = q == c ? 1 : 0;
    }
    const Index next = std::min(c + 1, kBand - 1);
    const Block kept = Block::load(keep);
    const Block changed = Block::load(change);
    products = Block::zero();
    for (Index i = c + 1; i < m; ++i) {
      double* const numbers = panel + i * kBand;
      const double v = scale * numbers[c];
      Block row = Block::load(numbers).times(kept);
      row.add(v, changed);
      row.store(numbers);
      if (i > next) products.add(numbers[next], row);
    }
  }
}

FIDFAST_WIDE_END

/// Prefetches a tile to the second-level cache.
void fetch(const double* tile) {
  for (Index i = 0; i < kTile; i += 8) __builtin_prefetch(tile + i, 0, 2);
}

/// Stores the upper triangle of the matrix in tiles, one row of tiles after the other, and two panels as columns of
/// tiles.
class BandReduction {
 public:
  BandReduction(const M& a, Index threads) : a_(a), threads_(threads) {}

  Band run();

 private:
  using Tiles = Vector<Cpu>;
  /// Reflectors of a panel.
  struct Panel {
    Tiles v;
    std::array<double, kTile> t;
  };

  double* tile(Index row, Index column) {
    return matrix_.data() + (row * tiles_ - row * (row - 1) / 2 + column - row) * kTile;
  }
  static double* tile_of(Tiles& tiles, Index row) { return tiles.data() + row * kTile; }

  void copy_row(Index row);
  void scale();
  void factor(Index k);
  void multiply(Index k, Index row);
  void sum_products(Index k);
  void finish_product(Index k, Index row);
  void update_row(Index k, Index row);
  M band();

  const M& a_;
  Index threads_;
  Index tiles_ = (a_.rows() + kBand - 1) / kBand;  // in a row; padded with zeros
  Tiles matrix_{tiles_ * (tiles_ + 1) / 2 * kTile};
  std::vector<double> largest_ = std::vector<double>(static_cast<std::size_t>(tiles_));  // of each row of tiles
  double scale_ = 1;
  // Panel k is panels_[k % 2]: the next one is factored while this one is still in use.
  std::array<Panel, 2> panels_{Panel{Tiles(tiles_ * kTile), {}}, Panel{Tiles(tiles_ * kTile), {}}};
  Tiles w_{tiles_ * kTile};
  Tiles minus_vt_{tiles_ * kTile};  // tiles of -V^T
  Tiles minus_wt_{tiles_ * kTile};
  Tiles partial_{tiles_ * kTile};  // contribution of each row of tiles to V^T W
  std::array<double, kTile> correction_{};
};

/// Panel k is the columns [k kBand, (k + 1) kBand) below the diagonal tile; by symmetry, the tiles (k, k + 1), (k, k +
/// 2) and so on. Q = I - V T V^T eliminates what is below the band. The remaining matrix A becomes Q^T A Q = A - V W^T
/// - W V^T with W = W0 - V (T^T V^T W0) / 2 and W0 = A V T.
Band BandReduction::run() {
  const Index panels = tiles_ - 1;
  std::vector<Index> counts = {tiles_, 1};
  for (Index k = 0; k < panels; ++k) {
    const Index rows = panels - k;
    counts.insert(counts.end(), {rows, 1, rows, rows});
  }
  parallel_phases(counts, threads_, [&](Index phase, Index i) {
    if (phase == 0) return copy_row(i);
    if (phase == 1) {
      scale();
      return factor(0);
    }
    const Index k = (phase - 2) / 4;
    const Index row = k + 1 + i;
    switch ((phase - 2) % 4) {
      case 0:
        return multiply(k, row);
      case 1:
        return sum_products(k);
      case 2:
        return finish_product(k, row);
      default:
        update_row(k, row);
        // The next panel depends on the first row only, so it is factored while the other rows are updated.
        if (i == 0) factor(k + 1);
    }
  });
  return {band(), scale_};
}

void BandReduction::copy_row(Index row) {
  const Index n = a_.rows();
  double largest = 0;
  std::fill_n(tile(row, row), (tiles_ - row) * kTile, 0.0);
  for (Index column = row; column < tiles_; ++column) {
    double* const numbers = tile(row, column);
    for (Index j = 0; j < std::min(kBand, n - row * kBand); ++j) {
      const double* const from = a_.column(row * kBand + j) + column * kBand;
      for (Index i = column == row ? j : 0; i < std::min(kBand, n - column * kBand); ++i) {
        numbers[j * kBand + i] = from[i];
        if (column == row) numbers[i * kBand + j] = from[i];
        largest = std::max(largest, std::abs(from[i]));
      }
    }
  }
  largest_[static_cast<std::size_t>(row)] = largest;
}

void BandReduction::scale() {
  const double largest = *std::max_element(largest_.begin(), largest_.end());
  if (largest == 0 || (largest > 0x1p-300 && largest < 0x1p300)) return;
  int exponent = 0;
  std::frexp(largest, &exponent);
  scale_ = std::ldexp(1.0, -exponent);
  for (Index i = 0; i < matrix_.size(); ++i) matrix_.data()[i] *= scale_;
}

/// R^T replaces the first tile of the panel in the matrix.
void BandReduction::factor(Index k) {
  if (k + 1 >= tiles_) return;
  Panel& panel = panels_[k % 2];
  for (Index row = k + 1; row < tiles_; ++row) transpose(1.0, tile(k, row), tile_of(panel.v, row));
  factor_panel(tile_of(panel.v, k + 1), (tiles_ - k - 1) * kBand, panel.t.data(), tile(k, k + 1));
}

/// Computes a row of tiles of W0, its contribution to V^T W0, and -V^T for update_row().
void BandReduction::multiply(Index k, Index row) {
  Panel& panel = panels_[k % 2];
  std::array<double, kTile> product{};
  for (Index other = k + 1; other < tiles_; ++other) {
    if (other + 1 < tiles_) fetch(other + 1 < row ? tile(other + 1, row) : tile(row, other + 1));
    const double* const v = tile_of(panel.v, other);
    if (other < row) {
      add_transposed_product(tile(other, row), v, product.data());
    } else {
      add_product(tile(row, other), v, product.data());
    }
  }
  double* const w = tile_of(w_, row);
  std::fill_n(w, kTile, 0.0);
  add_product(product.data(), panel.t.data(), w);
  double* const v = tile_of(panel.v, row);
  std::fill_n(tile_of(partial_, row), kTile, 0.0);
  add_transposed_product(v, w, tile_of(partial_, row));
  transpose(-1.0, v, tile_of(minus_vt_, row));
}

/// Computes -T^T V^T W0 / 2.
void BandReduction::sum_products(Index k) {
  std::array<double, kTile> sum{};
  for (Index row = k + 1; row < tiles_; ++row) {
    const double* const partial = tile_of(partial_, row);
    for (Index i = 0; i < kTile; ++i) sum[static_cast<std::size_t>(i)] -= 0.5 * partial[i];
  }
  correction_.fill(0.0);
  add_transposed_product(panels_[k % 2].t.data(), sum.data(), correction_.data());
}

/// Computes a row of tiles of W.
void BandReduction::finish_product(Index k, Index row) {
  double* const w = tile_of(w_, row);
  add_product(tile_of(panels_[k % 2].v, row), correction_.data(), w);
  transpose(-1.0, w, tile_of(minus_wt_, row));
}

/// Computes a row of tiles of A - V W^T - W V^T.
void BandReduction::update_row(Index k, Index row) {
  const double* const v = tile_of(panels_[k % 2].v, row);
  const double* const w = tile_of(w_, row);
  for (Index column = row; column < tiles_; ++column) {
    if (column + 1 < tiles_) fetch(tile(row, column + 1));
    add_product(v, tile_of(minus_wt_, column), tile(row, column));
    add_product(w, tile_of(minus_vt_, column), tile(row, column));
  }
}

M BandReduction::band() {
  const Index n = a_.rows();
  M result = M::zeros(kBandHeight, n + 2 * kBand);
  for (Index j = 0; j < n; ++j) {
    for (Index i = j; i < std::min(j + kBand + 1, n); ++i) {
      result.column(j)[i - j] = tile(j / kBand, i / kBand)[j % kBand * kBand + i % kBand];
    }
  }
  return result;
}

}  // namespace

Band reduce_to_band(const M& a, Index threads) { return BandReduction(a, threads).run(); }

}  // namespace fidfast

#endif
