// Operations on tables of n-grams: count texts, add tables, change the layout.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "core/matrix.hpp"
#include "core/ngrams/table.hpp"
#include "core/ngrams/words.hpp"
#include "core/parallel.hpp"

namespace fidfast {

/// N-grams in a piece of work: their keys stay in the cache until they are counted.
inline constexpr Index kPiece = 1 << 18;

/// Consecutive n-grams, possibly of several consecutive texts.
struct NgramPiece {
  std::size_t text = 0;
  Index first = 0;  // within the text
  Index ngrams = 0;
};

inline Index ngrams_of(const TextView& text, Index n) { return std::max<Index>(0, text.size - n + 1); }

inline std::vector<NgramPiece> pieces_of(const std::vector<TextView>& texts, Index n) {
  std::vector<NgramPiece> pieces;
  NgramPiece piece;
  for (std::size_t t = 0; t < texts.size(); ++t) {
    const Index here = ngrams_of(texts[t], n);
    for (Index taken = 0; taken < here;) {
      if (piece.ngrams == 0) piece = {t, taken, 0};
      const Index more = std::min(here - taken, kPiece - piece.ngrams);
      taken += more;
      piece.ngrams += more;
      if (piece.ngrams < kPiece) continue;
      pieces.push_back(piece);
      piece.ngrams = 0;
    }
  }
  if (piece.ngrams > 0) pieces.push_back(piece);
  return pieces;
}

/// Stored keys, for each part of the table.
using NgramKeys = std::array<std::vector<std::uint64_t>, NgramTable::kParts>;

template <class Width>
void gather_keys(Width width, const NgramLayout& layout, const std::vector<TextView>& texts, const NgramPiece& piece,
                 NgramKeys& keys) {
  for (auto& part : keys) part.clear();
  typename Width::Key key = width.key();
  typename Width::Key stored = width.key();
  Index first = piece.first;
  std::size_t t = piece.text;
  for (Index left = piece.ngrams; left > 0; ++t, first = 0) {
    const Index here = std::min(left, ngrams_of(texts[t], layout.n) - first);
    if (here <= 0) continue;
    left -= here;
    with_units(texts[t], [&](const auto* units) {
      units += first;
      for (Index i = 0; i < layout.n - 1; ++i) push_symbol(width, layout, units[i], key.data());
      for (Index i = 0; i < here; ++i) {
        push_symbol(width, layout, units[i + layout.n - 1], key.data());
        std::copy_n(key.data(), width.words(), stored.data());
        hash_key(width, stored.data());
        auto& part = keys[NgramTable::part_of(stored[0])];
        if (width.words() == 1) {
          part.push_back(stored[0]);
        } else {
          part.insert(part.end(), stored.data(), stored.data() + width.words());
        }
      }
    });
  }
}

template <class Width>
void count_keys(Width width, NgramTable& table, Index part, const std::vector<std::uint64_t>& keys) {
  constexpr Index kAhead = 16;  // loads from memory that overlap
  const Index stride = width.words();
  const Index size = static_cast<Index>(keys.size());
  for (Index i = 0; i < size; i += stride) {
    if (i % NgramTable::kCheck < stride) check_interrupt();
    if (i + kAhead * stride < size) table.prefetch(width, part, keys[i + kAhead * stride]);
    table.add(width, part, keys.data() + i, 1);
  }
}

/// Counts the n-grams within each text and returns their number. All symbols must fit the layout of the table.
inline Index count_ngrams(NgramTable& table, const std::vector<TextView>& texts, Index threads) {
  const NgramLayout layout = table.layout();
  const std::vector<NgramPiece> pieces = pieces_of(texts, layout.n);
  const Index count = static_cast<Index>(pieces.size());
  std::vector<NgramKeys> keys(static_cast<std::size_t>(std::min(threads, count)));
  with_width(layout.words, [&](auto width) {
    // Alternate between two phases: each thread gathers the keys of a piece; then each thread counts the keys of all
    // these pieces that belong to certain parts of the table.
    for (Index first = 0; first < count; first += threads) {
      const Index turn = std::min(threads, count - first);
      parallel_for(turn, threads, [&](Index i) { gather_keys(width, layout, texts, pieces[first + i], keys[i]); });
      parallel_for(NgramTable::kParts, turn, [&](Index part) {
        for (Index i = 0; i < turn; ++i) count_keys(width, table, part, keys[i][part]);
      });
    }
  });
  Index total = 0;
  for (const NgramPiece& piece : pieces) total += piece.ngrams;
  return total;
}

/// The table in another layout, with every symbol s replaced by renamed[s] if `renamed` is not null. N-grams with a
/// symbol that becomes kNoSymbol or does not fit the layout are left out.
inline NgramTable translated(const NgramTable& table, const NgramLayout& layout, const std::vector<Symbol>* renamed) {
  NgramTable result(layout);
  std::vector<Symbol> symbols(static_cast<std::size_t>(layout.n));
  with_width(table.layout().words, [&](auto from) {
    with_width(layout.words, [&](auto to) {
      auto key = to.key();
      for (Index part = 0; part < NgramTable::kParts; ++part) {  // most n-grams will be in the result
        if (table.num_distinct() > 0) result.reserve(to, part, table.num_distinct() / NgramTable::kParts);
      }
      table.for_each(from, [&](const std::uint64_t* stored, std::uint64_t count) {
        unpack_symbols(from, table.layout(), stored, symbols.data());
        for (Symbol& symbol : symbols) {
          if (renamed != nullptr) symbol = (*renamed)[symbol];
          if (symbol == kNoSymbol || !layout.holds(symbol)) return;
        }
        pack_symbols(to, layout, symbols.data(), key.data());
        result.add(to, NgramTable::part_of(key[0]), key.data(), count);
      });
    });
  });
  return result;
}

/// Adds the counts of `other`, which has the same layout. If it throws, no count has changed.
inline void add_counts(NgramTable& table, const NgramTable& other, Index threads) {
  with_width(table.layout().words, [&](auto width) {
    // Allocate everything first; after that nothing can fail.
    parallel_for(NgramTable::kParts, threads, [&](Index part) {
      Index fresh = 0;
      other.for_each(width, part, [&](const std::uint64_t* key, std::uint64_t) {
        if (table.count_of(width, key) == 0) ++fresh;
      });
      if (fresh > 0) table.reserve(width, part, table.size_of_part(part) + fresh);
    });
    const NoInterrupts complete;
    parallel_for(NgramTable::kParts, threads, [&](Index part) {
      other.for_each(width, part, [&](const std::uint64_t* key, std::uint64_t count) {
        table.add_without_growing(width, part, key, count);
      });
    });
  });
}

}  // namespace fidfast
