#include "core/ngrams/ngrams.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <type_traits>

#include "core/errors.hpp"
#include "core/ngrams/counting.hpp"

namespace fidfast {

namespace {

/// Number of bits of the widest symbol.
int bits_of(const std::vector<TextView>& texts) {
  std::uint64_t all = 0;
  for (const TextView& text : texts) {
    with_units(text, [&](const auto* units) {
      std::remove_const_t<std::remove_reference_t<decltype(*units)>> seen = 0;
      for (Index i = 0; i < text.size; ++i) seen |= units[i];
      all |= seen;
    });
  }
  return bit_width(all);
}

int bits_of(const Words& words) {
  return words.size() > 0 ? bit_width(static_cast<std::uint64_t>(words.size() - 1)) : 0;
}

Index checked_n(Index n) {
  if (n < 1 || n > NgramTally::kLargestN) {
    throw InvalidInput("n must be from 1 to " + std::to_string(NgramTally::kLargestN) + ", got " + std::to_string(n));
  }
  return n;
}

/// The word in UTF-8, stored in `holder`.
std::string_view utf8_of(const TextView& word, std::string& holder) {
  holder.clear();
  with_units(word, [&](const auto* units) {
    for (Index i = 0; i < word.size; ++i) append_utf8(holder, units[i]);
  });
  return holder;
}

/// Calls visit(word) for every word of a text, split at white space.
template <class Visit>
void for_each_word(const TextView& text, Visit visit) {
  with_units(text, [&](const auto* units) {
    for (Index i = 0; i < text.size;) {
      while (i < text.size && is_space(units[i])) ++i;
      const Index first = i;
      while (i < text.size && !is_space(units[i])) ++i;
      if (i > first) visit(TextView{units + first, i - first, text.unit});
    }
  });
}

void require_countable(Index before, Index more) {
  constexpr Index kMost = std::numeric_limits<Index>::max();
  if (more > kMost - before) throw InvalidInput("the total number of n-grams exceeds " + std::to_string(kMost));
}

void require_mergeable(const NgramCounts& mine, const NgramCounts& theirs) {
  if (mine.n() != theirs.n()) {
    throw InvalidInput("cannot merge counts of n=" + std::to_string(theirs.n()) + " and n=" + std::to_string(mine.n()));
  }
  if (mine.level() != theirs.level()) {
    throw InvalidInput(std::string("cannot merge counts of level='") + name_of(theirs.level()) + "' and level='" +
                       name_of(mine.level()) + "'");
  }
}

}  // namespace

const char* name_of(NgramLevel level) { return level == NgramLevel::kChar ? "char" : "word"; }

NgramTally::NgramTally(Index n, NgramLevel level)
    : n_(checked_n(n)), level_(level), table_(NgramLayout::fitting(n_, 1)) {}

NgramTally::NgramTally(Index n, NgramLevel level, Words words, const NgramList& list) : NgramTally(n, level) {
  constexpr Symbol kCodePoints = 0x110000;
  const Symbol limit = level == NgramLevel::kChar ? kCodePoints : static_cast<Symbol>(words.size());
  Symbol largest = 0;
  for (const Symbol symbol : list.symbols) {
    if (symbol >= limit) {
      throw InvalidInput("the state of NgramCounts holds the symbol " + std::to_string(symbol) + " of " +
                         std::to_string(limit));
    }
    largest = std::max(largest, symbol);
  }
  words_ = std::move(words);
  const NgramLayout layout =
      NgramLayout::fitting(n_, level == NgramLevel::kChar ? bit_width(largest) : bits_of(words_));
  table_ = NgramTable(layout);
  with_width(layout.words, [&](auto width) {
    auto key = width.key();
    const auto pack = [&](std::size_t i) {
      pack_symbols(width, layout, list.symbols.data() + i * static_cast<std::size_t>(n_), key.data());
      return NgramTable::part_of(key[0]);
    };
    // Reserve first: in a table that grows meanwhile, n-grams in the order of their hashes would form long clusters.
    std::vector<Index> sizes(NgramTable::kParts, 0);
    for (std::size_t i = 0; i < list.counts.size(); ++i) ++sizes[static_cast<std::size_t>(pack(i))];
    for (Index part = 0; part < NgramTable::kParts; ++part) {
      const Index size = sizes[static_cast<std::size_t>(part)];
      if (size > 0) table_.reserve(width, part, size);
    }
    for (std::size_t i = 0; i < list.counts.size(); ++i) {
      if (i % NgramTable::kCheck == 0) check_interrupt();
      if (list.counts[i] < 1) {
        throw InvalidInput("the state of NgramCounts holds the count " + std::to_string(list.counts[i]));
      }
      require_countable(num_ngrams_, list.counts[i]);
      const Index part = pack(i);
      table_.add(width, part, key.data(), static_cast<std::uint64_t>(list.counts[i]));
      num_ngrams_ += list.counts[i];
    }
  });
  if (num_distinct() != static_cast<Index>(list.counts.size())) {
    throw InvalidInput("the state of NgramCounts holds " + std::to_string(list.counts.size()) + " n-grams, of which " +
                       std::to_string(num_distinct()) + " are distinct");
  }
}

void NgramTally::count(const std::vector<TextView>& texts, Index threads) {
  if (level_ == NgramLevel::kChar) return count_symbols(texts, bits_of(texts), threads);
  std::string holder;
  std::vector<Symbol> numbers;
  std::vector<Index> ends;
  for (const TextView& text : texts) {
    check_interrupt();
    for_each_word(text, [&](const TextView& word) { numbers.push_back(words_.number(utf8_of(word, holder))); });
    ends.push_back(static_cast<Index>(numbers.size()));
  }
  count_numbers(numbers, ends, threads);
}

void NgramTally::count_words(const std::vector<TextView>& words, const std::vector<Index>& ends, Index threads) {
  std::string holder;
  std::vector<Symbol> numbers;
  numbers.reserve(words.size());
  for (const TextView& word : words) {
    check_interrupt_at(static_cast<Index>(numbers.size()));
    numbers.push_back(words_.number(utf8_of(word, holder)));
  }
  count_numbers(numbers, ends, threads);
}

void NgramTally::count_numbers(const std::vector<Symbol>& numbers, const std::vector<Index>& ends, Index threads) {
  std::vector<TextView> texts;
  texts.reserve(ends.size());
  Index first = 0;
  for (const Index end : ends) {
    texts.push_back({numbers.data() + first, end - first, static_cast<int>(sizeof(Symbol))});
    first = end;
  }
  count_symbols(texts, bits_of(words_), threads);
}

void NgramTally::count_symbols(const std::vector<TextView>& texts, int bits, Index threads) {
  if (threads < 1) throw InvalidInput("threads must be at least 1, got " + std::to_string(threads));
  if (bits > table_.layout().bits) table_ = translated(table_, NgramLayout::fitting(n_, bits), nullptr);
  num_ngrams_ += count_ngrams(table_, texts, threads);
}

void NgramTally::merge(const NgramTally& other, Index threads) {
  require_countable(num_ngrams_, other.num_ngrams_);
  std::vector<Symbol> renamed;
  int bits = other.table_.layout().bits;
  if (level_ == NgramLevel::kWord) {
    renamed.reserve(static_cast<std::size_t>(other.words_.size()));
    for (Symbol word = 0; word < other.words_.size(); ++word) {
      check_interrupt_at(word);
      renamed.push_back(words_.number(other.words_[word]));
    }
    bits = bits_of(words_);
  }
  NgramLayout layout = table_.layout();
  if (bits > layout.bits) {
    layout = NgramLayout::fitting(n_, bits);
    table_ = translated(table_, layout, nullptr);
  }
  if (renamed.empty() && other.table_.layout() == layout) {
    add_counts(table_, other.table_, threads);
  } else {
    add_counts(table_, translated(other.table_, layout, renamed.empty() ? nullptr : &renamed), threads);
  }
  num_ngrams_ += other.num_ngrams_;
}

const NgramTable& NgramTally::in_my_symbols(const NgramTally& other, NgramTable& holder) const {
  const NgramLayout& layout = table_.layout();
  if (level_ == NgramLevel::kChar) {
    if (other.table_.layout() == layout) return other.table_;
    holder = translated(other.table_, layout, nullptr);
    return holder;
  }
  std::vector<Symbol> renamed;
  renamed.reserve(static_cast<std::size_t>(other.words_.size()));
  for (Symbol word = 0; word < other.words_.size(); ++word) {
    check_interrupt_at(word);
    renamed.push_back(words_.find(other.words_[word]));
  }
  holder = translated(other.table_, layout, &renamed);
  return holder;
}

bool NgramTally::operator==(const NgramTally& other) const {
  if (n_ != other.n_ || level_ != other.level_ || num_ngrams_ != other.num_ngrams_) return false;
  if (num_distinct() != other.num_distinct()) return false;
  NgramTable holder(table_.layout());
  const NgramTable& theirs = in_my_symbols(other, holder);
  bool same = true;
  with_width(table_.layout().words, [&](auto width) {
    table_.for_each(width, [&](const std::uint64_t* key, std::uint64_t count) {
      same = same && theirs.count_of(width, key) == count;
    });
  });
  return same;
}

NgramList NgramTally::at_least(std::uint64_t least) const {
  NgramList result;
  with_width(table_.layout().words, [&](auto width) {
    table_.for_each(width, [&](const std::uint64_t* key, std::uint64_t count) {
      if (count < least) return;
      result.symbols.resize(result.symbols.size() + static_cast<std::size_t>(n_));
      unpack_symbols(width, table_.layout(), key, result.symbols.data() + result.symbols.size() - n_);
      result.counts.push_back(static_cast<Index>(count));
    });
  });
  return result;
}

NgramList NgramTally::list() const {
  NgramList result;
  with_width(table_.layout().words, [&](auto width) {
    struct Entry {
      std::uint64_t first;  // word of the key
      const std::uint64_t* stored;
      std::uint64_t count;
    };
    std::vector<Entry> entries;
    entries.reserve(static_cast<std::size_t>(num_distinct()));
    auto key = width.key();
    table_.for_each(width, [&](const std::uint64_t* stored, std::uint64_t count) {
      std::copy_n(stored, width.words(), key.data());
      unhash_key(width, key.data());
      entries.push_back({key[0], stored, count});
    });
    std::sort(entries.begin(), entries.end(), [width](const Entry& a, const Entry& b) {
      const auto end = width.words();
      if (a.first != b.first) return a.first < b.first;
      return std::lexicographical_compare(a.stored + 1, a.stored + end, b.stored + 1, b.stored + end);
    });
    result.symbols.resize(entries.size() * static_cast<std::size_t>(n_));
    for (const Entry& entry : entries) {
      unpack_symbols(width, table_.layout(), entry.stored, result.symbols.data() + result.counts.size() * n_);
      result.counts.push_back(static_cast<Index>(entry.count));
    }
  });
  return result;
}

NgramList NgramTally::most_common(Index k) const {
  if (k < 0) throw InvalidInput("k must be at least 0, got " + std::to_string(k));
  k = std::min(k, num_distinct());
  if (k == 0) return {};
  std::vector<std::uint64_t> counts;
  with_width(table_.layout().words, [&](auto width) {
    table_.for_each(width, [&](const std::uint64_t*, std::uint64_t count) { counts.push_back(count); });
  });
  std::nth_element(counts.begin(), counts.begin() + (k - 1), counts.end(), std::greater<>());
  const NgramList candidates = at_least(counts[k - 1]);

  // Ranks of the words in the order of their code points. Characters are in that order already.
  std::vector<Symbol> ranks(static_cast<std::size_t>(words_.size()));
  std::vector<Symbol> sorted(ranks.size());
  std::iota(sorted.begin(), sorted.end(), Symbol{0});
  Index sorting = 0;
  std::sort(sorted.begin(), sorted.end(), [&](Symbol a, Symbol b) {
    check_interrupt_at(++sorting);
    return words_[a] < words_[b];
  });
  for (Symbol rank = 0; rank < sorted.size(); ++rank) ranks[sorted[rank]] = rank;
  const auto rank_of = [&](Symbol symbol) { return ranks.empty() ? symbol : ranks[symbol]; };

  const auto symbols_of = [&](Index ngram) { return candidates.symbols.data() + ngram * n_; };
  Index compared = 0;
  const auto comes_first = [&](Index a, Index b) {
    check_interrupt_at(++compared);
    if (candidates.counts[a] != candidates.counts[b]) return candidates.counts[a] > candidates.counts[b];
    return std::lexicographical_compare(symbols_of(a), symbols_of(a) + n_, symbols_of(b), symbols_of(b) + n_,
                                        [&](Symbol x, Symbol y) { return rank_of(x) < rank_of(y); });
  };
  std::vector<Index> order(candidates.counts.size());
  std::iota(order.begin(), order.end(), Index{0});
  std::nth_element(order.begin(), order.begin() + (k - 1), order.end(), comes_first);
  std::sort(order.begin(), order.begin() + k, comes_first);

  NgramList result;
  result.symbols.reserve(static_cast<std::size_t>(k * n_));
  for (Index i = 0; i < k; ++i) {
    result.symbols.insert(result.symbols.end(), symbols_of(order[i]), symbols_of(order[i]) + n_);
    result.counts.push_back(candidates.counts[order[i]]);
  }
  return result;
}

void NgramCounts::add(NgramTally fresh, Index threads) {
  const std::lock_guard<ObjectMutex> lock(mutex_);
  if (tally_.num_ngrams() == 0) {
    std::swap(tally_, fresh);
  } else {
    tally_.merge(fresh, threads);
  }
}

void NgramCounts::merge(const NgramCounts& other) {
  require_mergeable(*this, other);
  if (&other == this) return add(tally(), 1);
  const std::scoped_lock both(mutex_, other.mutex_);
  if (tally_.num_ngrams() == 0) {
    tally_ = NgramTally(other.tally_);
  } else {
    tally_.merge(other.tally_, 1);
  }
}

void NgramCounts::reset() {
  NgramTally empty(n_, level_);
  const std::lock_guard<ObjectMutex> lock(mutex_);
  std::swap(tally_, empty);
}

bool NgramCounts::equals(const NgramCounts& other) const {
  if (&other == this) return true;
  const std::scoped_lock both(mutex_, other.mutex_);
  return tally_ == other.tally_;
}

double ngram_jsd(const NgramCounts& a, const NgramCounts& b) {
  if (&a == &b) return ngram_jsd(a.tally(), a.tally());
  const std::scoped_lock both(a.mutex_, b.mutex_);
  return ngram_jsd(a.tally_, b.tally_);
}

}  // namespace fidfast
