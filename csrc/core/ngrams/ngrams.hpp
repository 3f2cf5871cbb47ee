// Counts of the n-grams of texts, mergeable and exact, and the Jensen-Shannon divergence between two of them.
#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "core/matrix.hpp"
#include "core/ngrams/table.hpp"
#include "core/ngrams/words.hpp"

namespace fidfast {

enum class NgramLevel { kChar, kWord };

/// The name by which users know a level.
const char* name_of(NgramLevel level);

/// N-grams and their counts, as plain data.
struct NgramList {
  std::vector<Symbol> symbols;  // (counts.size(), n)
  std::vector<Index> counts;    // each at least 1
};

/// The counts themselves, for one thread at a time.
class NgramTally {
 public:
  static constexpr Index kLargestN = 1024;

  NgramTally(Index n, NgramLevel level);

  /// The tally of n-grams as list() gives them, of these words at the level of words.
  NgramTally(Index n, NgramLevel level, Words words, const NgramList& list);

  Index n() const { return n_; }
  NgramLevel level() const { return level_; }
  Index num_ngrams() const { return num_ngrams_; }
  Index num_distinct() const { return table_.num_distinct(); }
  Index num_bytes() const { return table_.num_bytes() + words_.num_bytes(); }
  const Words& words() const { return words_; }

  /// Counts the n-grams within each text. At the level of words, the texts are split where there is white space.
  void count(const std::vector<TextView>& texts, Index threads);

  /// Counts the n-grams of words within each text; text t is made of the words from ends[t - 1] to ends[t].
  void count_words(const std::vector<TextView>& words, const std::vector<Index>& ends, Index threads);

  /// Adds the counts of `other`. Where memory fails, no count has changed.
  void merge(const NgramTally& other, Index threads);

  bool operator==(const NgramTally& other) const;

  /// Every n-gram, in no particular order.
  NgramList list() const;

  /// The k n-grams with the largest counts, largest first; n-grams of equal counts in the order of their code points.
  NgramList most_common(Index k) const;

  friend double ngram_jsd(const NgramTally& a, const NgramTally& b);

 private:
  /// The n-grams that were counted so often or more.
  NgramList at_least(std::uint64_t least) const;

  void count_numbers(const std::vector<Symbol>& numbers, const std::vector<Index>& ends, Index threads);
  void count_symbols(const std::vector<TextView>& texts, int bits, Index threads);

  /// The other tally's table in the symbols and the layout of this one, without the n-grams that cannot be here: the
  /// table itself where it is in them already, or put into `holder`.
  const NgramTable& in_my_symbols(const NgramTally& other, NgramTable& holder) const;

  Index n_;
  NgramLevel level_;
  Words words_;  // empty at the level of characters
  NgramTable table_;
  Index num_ngrams_ = 0;
};

/// A tally for several threads at once: each call holds the object's lock for the time it takes. Texts are counted in
/// a tally of their own before it is taken.
class NgramCounts {
 public:
  NgramCounts(Index n, NgramLevel level) : n_(n), level_(level), tally_(n, level) {}
  explicit NgramCounts(NgramTally tally) : n_(tally.n()), level_(tally.level()), tally_(std::move(tally)) {}
  NgramCounts(const NgramCounts& other) : NgramCounts(other.tally()) {}

  Index n() const { return n_; }
  NgramLevel level() const { return level_; }

  /// look(tally) while no other thread can change it.
  template <class Look>
  auto read(Look look) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return look(tally_);
  }

  NgramTally tally() const {
    return read([](const NgramTally& tally) { return tally; });
  }

  /// Adds what a tally of the same n and level has counted. All or nothing.
  void add(NgramTally fresh, Index threads);
  void merge(const NgramCounts& other);
  void reset();
  bool equals(const NgramCounts& other) const;

  friend double ngram_jsd(const NgramCounts& a, const NgramCounts& b);

 private:
  const Index n_;  // not read from the tally, which another thread may be replacing
  const NgramLevel level_;
  NgramTally tally_;
  mutable std::mutex mutex_;
};

/// The Jensen-Shannon divergence between the distributions of the n-grams, in bits: from 0 to 1, and the same bit for
/// bit with the sides swapped.
double ngram_jsd(const NgramTally& a, const NgramTally& b);
double ngram_jsd(const NgramCounts& a, const NgramCounts& b);

}  // namespace fidfast
