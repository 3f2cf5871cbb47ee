// Texts for the tests of n-grams, and counts by a map.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/ngrams/ngrams.hpp"

namespace fidfast::oracle {

using Counted = std::map<std::u32string, Index>;

inline TextView view(const std::string& text) { return {text.data(), static_cast<Index>(text.size()), 1}; }
inline TextView view(const std::u16string& text) { return {text.data(), static_cast<Index>(text.size()), 2}; }
inline TextView view(const std::u32string& text) { return {text.data(), static_cast<Index>(text.size()), 4}; }

template <class Text>
std::vector<TextView> views(const std::vector<Text>& texts) {
  std::vector<TextView> result;
  for (const Text& text : texts) result.push_back(view(text));
  return result;
}

/// Random characters from `first` on, with few frequent ones.
template <class Text>
Text random_text(std::mt19937_64& random, std::size_t size, std::uint32_t first, std::uint32_t kinds) {
  std::geometric_distribution<std::uint32_t> kind(2.0 / kinds);
  Text text;
  while (text.size() < size) text.push_back(static_cast<typename Text::value_type>(first + kind(random) % kinds));
  return text;
}

template <class Text>
void count_by_map(const std::vector<Text>& texts, std::size_t n, Counted& counted) {
  using Unit = std::make_unsigned_t<std::conditional_t<sizeof(typename Text::value_type) == 1, char, std::int32_t>>;
  for (const Text& text : texts) {
    std::u32string symbols;
    for (const auto unit : text) symbols.push_back(static_cast<Unit>(unit));
    for (std::size_t i = 0; i + n <= symbols.size(); ++i) ++counted[symbols.substr(i, n)];
  }
}

inline Counted counted(const NgramTally& tally) {
  const NgramList list = tally.list();
  const std::size_t n = static_cast<std::size_t>(tally.n());
  Counted result;
  for (std::size_t i = 0; i < list.counts.size(); ++i) {
    const Symbol* const first = list.symbols.data() + i * n;
    result[std::u32string(first, first + n)] += list.counts[i];
  }
  return result;
}

template <class Text>
NgramTally tally_of(Index n, NgramLevel level, const std::vector<Text>& texts, Index threads = 1) {
  NgramTally tally(n, level);
  tally.count(views(texts), threads);
  return tally;
}

/// Counts of n-grams of words, which are joined by bars.
inline std::map<std::string, Index> counted_words(const NgramTally& tally) {
  const NgramList list = tally.list();
  std::map<std::string, Index> result;
  for (std::size_t i = 0; i < list.counts.size(); ++i) {
    std::string ngram;
    for (Index j = 0; j < tally.n(); ++j) {
      if (j > 0) ngram += '|';
      ngram += tally.words()[list.symbols[i * static_cast<std::size_t>(tally.n()) + static_cast<std::size_t>(j)]];
    }
    result[ngram] += list.counts[i];
  }
  return result;
}

}  // namespace fidfast::oracle
