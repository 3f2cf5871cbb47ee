#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "core/errors.hpp"
#include "core/ngrams/ngrams.hpp"

namespace fidfast {

namespace {

__extension__ using Wide = unsigned __int128;

/// Contribution to twice the divergence of an n-gram with count a of na and count b of nb: for p = a / na and q = b /
/// nb, p log2(2p / (p + q)) + q log2(2q / (p + q)). Accurate even if p and q are nearly equal, since their difference
/// is computed in integers. Exactly symmetric.
double divergence_of(std::uint64_t a, std::uint64_t na, std::uint64_t b, std::uint64_t nb) {
  constexpr double kLn2 = 0.693147180559945309417;
  const Wide larger = std::max(Wide{a} * nb, Wide{b} * na);
  const Wide smaller = std::min(Wide{a} * nb, Wide{b} * na);
  const double sum = static_cast<double>(larger + smaller);
  const double d = static_cast<double>(larger - smaller) / sum;
  const double mean = sum / (static_cast<double>(na) * static_cast<double>(nb)) / 2;  // (p + q) / 2
  // (1 + d) log(1 + d) + (1 - d) log(1 - d), in two forms: in the first, for small d, the logarithms do not cancel.
  constexpr double kNear = 0.5;
  if (d < kNear) return mean * ((2 * d * std::atanh(d) + std::log1p(-d * d)) / kLn2);
  const double high = 2 * static_cast<double>(larger) / sum;
  const double low = 2 * static_cast<double>(smaller) / sum;
  return mean * (high * std::log2(high) + low * std::log2(low));
}

}  // namespace

/// (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2 and logarithms to base 2. N-grams that only one set has
/// contribute their frequency, which needs only their number; the others are summed as integers in units of 2^-100, so
/// the order does not matter. The result is 0 for equal distributions and 1 for disjoint ones.
double ngram_jsd(const NgramTally& a, const NgramTally& b) {
  if (a.n() != b.n()) {
    throw InvalidInput("samples has n=" + std::to_string(a.n()) + ", but reference has n=" + std::to_string(b.n()));
  }
  if (a.level() != b.level()) {
    throw InvalidInput(std::string("samples has level='") + name_of(a.level()) + "', but reference has level='" +
                       name_of(b.level()) + "'");
  }
  for (const NgramTally* side : {&a, &b}) {
    if (side->num_ngrams() > 0) continue;
    throw InvalidInput(std::string(side == &a ? "samples" : "reference") +
                       " has no n-grams: all of its texts are shorter than n=" + std::to_string(a.n()));
  }
  const std::uint64_t na = static_cast<std::uint64_t>(a.num_ngrams());
  const std::uint64_t nb = static_cast<std::uint64_t>(b.num_ngrams());
  NgramTable holder(a.table_.layout());
  const NgramTable& theirs = a.in_my_symbols(b, holder);
  constexpr int kUnit = 100;
  Wide sum = 0;
  std::uint64_t shared_a = 0;
  std::uint64_t shared_b = 0;
  with_width(a.table_.layout().words, [&](auto width) {
    a.table_.for_each(width, [&](const std::uint64_t* key, std::uint64_t in_a) {
      const std::uint64_t in_b = theirs.count_of(width, key);
      if (in_b == 0) return;
      shared_a += in_a;
      shared_b += in_b;
      sum += static_cast<Wide>(std::ldexp(divergence_of(in_a, na, in_b, nb), kUnit));
    });
  });
  const double alone_a = static_cast<double>(na - shared_a) / static_cast<double>(na);
  const double alone_b = static_cast<double>(nb - shared_b) / static_cast<double>(nb);
  const double total = (alone_a + alone_b) + std::ldexp(static_cast<double>(sum), -kUnit);
  return std::min(total / 2, 1.0);
}

}  // namespace fidfast
