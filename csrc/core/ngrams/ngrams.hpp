// Exact, mergeable counts of the n-grams of texts, and the Jensen-Shannon divergence between two of them.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/ngrams/table.hpp"
#include "core/ngrams/words.hpp"

namespace fidfast {

enum class NgramLevel { kChar, kWord };

/// "char" or "word".
const char* name_of(NgramLevel level);

/// N-grams and their counts, as plain data.
struct NgramList {
  std::vector<Symbol> symbols;  // (counts.size(), n)
  std::vector<Index> counts;    // each at least 1
};

/// Counts of n-grams. Not thread-safe.
class NgramTally {
 public:
  static constexpr Index kLargestN = 1024;

  NgramTally(Index n, NgramLevel level);

  /// From the result of list(), and of words() at word level.
  NgramTally(Index n, NgramLevel level, Words words, const NgramList& list);

  Index n() const { return n_; }
  NgramLevel level() const { return level_; }
  Index num_ngrams() const { return num_ngrams_; }
  Index num_distinct() const { return table_.num_distinct(); }
  Index num_bytes() const { return table_.num_bytes() + words_.num_bytes(); }
  const Words& words() const { return words_; }

  /// Counts the n-grams within each text. At word level, texts are split at white space.
  void count(const std::vector<TextView>& texts, Index threads);

  /// Counts the n-grams of words within each text; the words of text t are words[ends[t - 1]:ends[t]].
  void count_words(const std::vector<TextView>& words, const std::vector<Index>& ends, Index threads);

  /// Adds the counts of `other`. If an allocation fails, no count has changed.
  void merge(const NgramTally& other, Index threads);

  bool operator==(const NgramTally& other) const;

  /// All n-grams, in the order of their symbols.
  NgramList list() const;

  /// The k n-grams with the largest counts, in descending order; ties are sorted by code points.
  NgramList most_common(Index k) const;

  friend double ngram_jsd(const NgramTally& a, const NgramTally& b);

 private:
  /// The n-grams with counts of at least `least`.
  NgramList at_least(std::uint64_t least) const;

  void count_numbers(const std::vector<Symbol>& numbers, const std::vector<Index>& ends, Index threads);
  void count_symbols(const std::vector<TextView>& texts, int bits, Index threads);

  /// The table of `other` in the symbols and the layout of this tally, without n-grams that cannot occur here. Returns
  /// other's own table if nothing has to be translated, else stores the translation in `holder`.
  const NgramTable& in_my_symbols(const NgramTally& other, NgramTable& holder) const;

  Index n_;
  NgramLevel level_;
  Words words_;  // empty at character level
  NgramTable table_;
  Index num_ngrams_ = 0;
};

/// Thread-safe counts: each call holds the object's lock. Texts are counted into a separate tally before locking.
class NgramCounts {
 public:
  NgramCounts(Index n, NgramLevel level) : n_(n), level_(level), tally_(n, level) {}
  explicit NgramCounts(NgramTally tally) : n_(tally.n()), level_(tally.level()), tally_(std::move(tally)) {}
  NgramCounts(const NgramCounts& other) : NgramCounts(other.tally()) {}

  Index n() const { return n_; }
  NgramLevel level() const { return level_; }

  /// Calls look(tally) with the lock held.
  template <class Look>
  auto read(Look look) const {
    const std::lock_guard<ObjectMutex> lock(mutex_);
    return look(tally_);
  }

  NgramTally tally() const {
    return read([](const NgramTally& tally) { return tally; });
  }

  /// Adds a tally of the same n and level. If it fails, nothing has changed.
  void add(NgramTally fresh, Index threads);
  void merge(const NgramCounts& other);
  void reset();
  bool equals(const NgramCounts& other) const;

  friend double ngram_jsd(const NgramCounts& a, const NgramCounts& b);

 private:
  const Index n_;  // not read from the tally, which another thread may replace
  const NgramLevel level_;
  NgramTally tally_;
  mutable ObjectMutex mutex_;
};

/// Jensen-Shannon divergence between the distributions of the n-grams, in bits: from 0 to 1. Exactly symmetric.
double ngram_jsd(const NgramTally& a, const NgramTally& b);
double ngram_jsd(const NgramCounts& a, const NgramCounts& b);

}  // namespace fidfast
