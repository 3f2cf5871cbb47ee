// Distances in float16: rounding, and precision and recall equal to plain loops.
#include "core/neighbours/rounded.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.hpp"
#include "oracle.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

namespace {

/// The nearest float16 to a finite number, from its definition: multiples of a power of 2, ties to even.
float nearest_float16(double x) {
  const int exponent = x == 0 ? -14 : std::max(std::ilogb(x), -14);
  const double rounded = std::ldexp(std::nearbyint(std::ldexp(x, 10 - exponent)), exponent - 10);
  return static_cast<float>(std::abs(rounded) > 65504 ? std::copysign(kInfinity, x) : rounded);
}

std::vector<float> all_float16() {
  std::vector<float> result;
  for (int exponent = -14; exponent <= 15; ++exponent) {
    for (int fraction = exponent == -14 ? 0 : 1024; fraction < 2048; ++fraction) {
      result.push_back(std::ldexp(static_cast<float>(fraction), exponent - 10));
    }
  }
  return result;
}

/// (dim, n) integers below `most`, so that products are exact.
M integers(Index dim, Index n, double most, std::uint64_t seed) {
  Random random(seed);
  return map(random.rows(dim, n), [=](double value) { return std::floor(std::fmod(std::abs(value) * 1e3, most)); });
}

float plain_distance(const M& a, Index i, const M& b, Index j, DistanceTool tool) {
  float one = 0;
  float two = 0;
  double product = 0;
  for (Index d = 0; d < a.rows(); ++d) {
    const double x = a.column(i)[d];
    const double y = b.column(j)[d];
    one += nearest_float16(x * x);
    two += nearest_float16(y * y);
    product += x * y;
  }
  one = nearest_float16(one);
  two = nearest_float16(two);
  if (tool == DistanceTool::kStyleGan3) {
    return nearest_float16(std::sqrt(std::max(0.0F, nearest_float16(double{one} + two - 2 * product))));
  }
  const float doubled = nearest_float16(2 * double{nearest_float16(product)});
  return std::max(0.0F, nearest_float16(double{nearest_float16(double{one} - doubled)} + two));
}

std::pair<double, double> plain_precision_recall(const M& samples, const M& reference, Index k, DistanceTool tool) {
  const auto radii = [&](const M& rows) {
    std::vector<float> result;
    for (Index i = 0; i < rows.cols(); ++i) {
      std::vector<float> distances;
      for (Index j = 0; j < rows.cols(); ++j) distances.push_back(plain_distance(rows, i, rows, j, tool));
      std::sort(distances.begin(), distances.end());
      result.push_back(distances[static_cast<std::size_t>(k)]);
    }
    return result;
  };
  const std::vector<float> of_samples = radii(samples);
  const std::vector<float> of_reference = radii(reference);
  std::vector<char> samples_within(of_samples.size(), '\0');
  std::vector<char> reference_within(of_reference.size(), '\0');
  for (std::size_t i = 0; i < of_reference.size(); ++i) {
    for (std::size_t j = 0; j < of_samples.size(); ++j) {
      const float distance = plain_distance(reference, static_cast<Index>(i), samples, static_cast<Index>(j), tool);
      if (distance <= of_reference[i]) samples_within[j] = '\1';
      if (distance <= of_samples[j]) reference_within[i] = '\1';
    }
  }
  const auto share = [](const std::vector<char>& marks) {
    return static_cast<double>(std::count(marks.begin(), marks.end(), '\1')) / static_cast<double>(marks.size());
  };
  return {share(samples_within), share(reference_within)};
}

FeatureView<double> view(const M& rows) { return columns_as_features(rows, 0, rows.cols()); }

}  // namespace

TEST(rounding_to_float16) {
  const std::vector<float> values = all_float16();
  for (std::size_t i = 0; i + 1 < values.size(); ++i) {
    CHECK(next_float16(values[i]) == values[i + 1]);
    const float middle = values[i] + (values[i + 1] - values[i]) / 2;
    for (const float x : {values[i], std::nextafter(middle, 0.0F), middle, std::nextafter(middle, 1e9F)}) {
      CHECK(to_float16(x) == nearest_float16(x));
      CHECK(to_float16(-x) == -nearest_float16(x));
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(next_float16(65504) == infinity);
  CHECK(to_float16(std::nextafter(65520.0F, 0.0F)) == 65504);
  for (const float x : {65520.0F, 65536.0F, 1e30F, std::numeric_limits<float>::max(), infinity}) {
    CHECK(to_float16(x) == infinity);
    CHECK(to_float16(-x) == -infinity);
  }
  CHECK(std::isnan(to_float16(std::numeric_limits<float>::quiet_NaN())));
}

TEST(precision_and_recall_equal_plain_loops) {
  for (const double most : {3.0, 30.0}) {
    const M samples = integers(12, 70, most, 1);
    const M reference = integers(12, 90, most, 2);
    for (const DistanceTool tool : {DistanceTool::kGuidedDiffusion, DistanceTool::kStyleGan3}) {
      for (const Index k : {Index{1}, Index{3}, Index{40}}) {
        const auto expected = plain_precision_recall(samples, reference, k, tool);
        for (const Index block : {Index{7}, Index{1000}}) {
          CHECK(rounded_precision_recall<Cpu>(view(samples), view(reference), k, tool, block) == expected);
        }
      }
    }
  }
}
