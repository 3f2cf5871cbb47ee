// A hash table from n-grams of symbols to their counts. A symbol is a code point or the number of a word. An n-gram is
// packed without loss into as few 64-bit words as its widest symbol allows. Searches compare all of them, so hash
// collisions do not affect the counts.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/interrupt.hpp"
#include "core/matrix.hpp"
#include "core/ngrams/hashing.hpp"

namespace fidfast {

using Symbol = std::uint32_t;

/// Not a code point, and greater than every word number.
inline constexpr Symbol kNoSymbol = 0xffffffffU;

inline int bit_width(std::uint64_t value) {
  int width = 0;
  for (; value != 0; value >>= 1) ++width;
  return width;
}

/// How n symbols are packed into 64-bit words: the first symbol in the highest bits, so that keys compare as their
/// n-grams do. A symbol is never split between words; only the first word may hold fewer symbols than the others.
struct NgramLayout {
  Index n = 1;
  Index words = 1;
  Index symbols_per_word = 1;
  int bits = 32;

  /// The layout with the fewest words that can hold symbols of `bits` bits, and with the widest symbols for that.
  static NgramLayout fitting(Index n, int bits) {
    const Index most = std::min<Index>(n, 64 / std::max(bits, 1));
    const Index words = (n + most - 1) / most;
    const Index each = (n + words - 1) / words;
    return {n, words, each, static_cast<int>(std::min<Index>(32, 64 / each))};
  }

  bool operator==(const NgramLayout& other) const { return n == other.n && bits == other.bits; }

  Index symbols_of_first() const { return n - (words - 1) * symbols_per_word; }
  bool holds(Symbol symbol) const { return (std::uint64_t{symbol} >> bits) == 0; }
};

/// Number of 64-bit words in a key; a compile-time constant if it is small.
template <int Count>
struct FixedWidth {
  using Key = std::array<std::uint64_t, Count>;
  explicit FixedWidth(Index) {}
  static constexpr Index words() { return Count; }
  static Key key() { return {}; }
};
struct AnyWidth {
  using Key = std::vector<std::uint64_t>;
  explicit AnyWidth(Index words) : words_(words) {}
  Index words() const { return words_; }
  Key key() const { return Key(static_cast<std::size_t>(words_)); }

 private:
  Index words_;
};

/// Calls work(width) with FixedWidth or AnyWidth.
template <class Work>
auto with_width(Index words, Work work) {
  if (words == 1) return work(FixedWidth<1>(words));
  if (words == 2) return work(FixedWidth<2>(words));
  return work(AnyWidth(words));
}

/// Converts a key to its stored form, and back: the first word is replaced by a hash of all words, which is invertible
/// given the others. So no hash is computed twice.
template <class Width>
void hash_key(Width width, std::uint64_t* key) {
  std::uint64_t rest = 0;
  for (Index w = 1; w < width.words(); ++w) rest = scramble(rest + key[w]);
  key[0] = scramble(key[0] ^ rest);
}
template <class Width>
void unhash_key(Width width, std::uint64_t* key) {
  std::uint64_t rest = 0;
  for (Index w = 1; w < width.words(); ++w) rest = scramble(rest + key[w]);
  key[0] = unscramble(key[0]) ^ rest;
}

/// Removes the first symbol of the key and appends `symbol`.
template <class Width>
void push_symbol(Width width, const NgramLayout& layout, std::uint64_t symbol, std::uint64_t* key) {
  for (Index w = width.words() - 1; w >= 0; --w) {
    const int held = layout.bits * static_cast<int>(w > 0 ? layout.symbols_per_word : layout.symbols_of_first());
    const std::uint64_t leaving = key[w] >> (held - layout.bits);
    key[w] = ((key[w] << layout.bits) | symbol) & (~std::uint64_t{0} >> (64 - held));
    symbol = leaving;
  }
}

class NgramTable {
 public:
  /// The table is partitioned by hash, so that threads can fill it and a part of a million n-grams fits into a cache.
  static constexpr Index kParts = 64;
  static constexpr int kPartBits = 6;
  /// Slots between two calls of check_interrupt().
  static constexpr Index kCheck = 4096;

  static Index part_of(std::uint64_t hash) { return static_cast<Index>(hash >> (64 - kPartBits)); }

  explicit NgramTable(NgramLayout layout) : layout_(layout), parts_(kParts) {}

  const NgramLayout& layout() const { return layout_; }

  Index num_distinct() const {
    Index total = 0;
    for (const Part& part : parts_) total += part.size;
    return total;
  }

  Index num_bytes() const {
    std::size_t total = 0;
    for (const Part& part : parts_) total += part.slots.capacity() * sizeof(std::uint64_t);
    return static_cast<Index>(total);
  }

  /// Adds `count` to the n-gram of a stored key (width.words(),). Grows the part only if add_without_growing() could
  /// not insert the key.
  template <class Width>
  void add(Width width, Index part, const std::uint64_t* key, std::uint64_t count) {
    if (full(parts_[part], parts_[part].size)) grow(width, parts_[part], parts_[part].size);
    add_without_growing(width, part, key, count);
  }

  template <class Width>
  void add_without_growing(Width width, Index part, const std::uint64_t* key, std::uint64_t count) {
    Part& mine = parts_[part];
    std::uint64_t* const slot = mine.slots.data() + slot_of(width, mine, key);
    std::uint64_t& counted = slot[width.words()];
    if (counted == 0) {
      std::copy_n(key, width.words(), slot);
      ++mine.size;
    }
    counted += count;
  }

  /// Makes room for `size` n-grams in the part.
  template <class Width>
  void reserve(Width width, Index part, Index size) {
    if (full(parts_[part], size)) grow(width, parts_[part], size);
  }

  /// Prefetches the slot where the search for a hash begins.
  template <class Width>
  void prefetch(Width width, Index part, std::uint64_t hash) const {
    const Part& mine = parts_[part];
    if (mine.capacity > 0) __builtin_prefetch(mine.slots.data() + home(width, mine, hash), 1);
  }

  /// Count of the n-gram of a stored key.
  template <class Width>
  std::uint64_t count_of(Width width, const std::uint64_t* key) const {
    const Part& part = parts_[part_of(key[0])];
    return part.capacity == 0 ? 0 : part.slots[slot_of(width, part, key) + width.words()];
  }

  /// Calls visit(key, count) for the stored key of every n-gram of a part, nearly in the order of the hashes, so that
  /// lookups in another table are nearly sequential.
  template <class Width, class Visit>
  void for_each(Width width, Index part, Visit visit) const {
    const Index stride = width.words() + 1;
    const std::uint64_t* slot = parts_[part].slots.data();
    for (Index i = 0; i < parts_[part].capacity; ++i, slot += stride) {
      if (i % kCheck == 0) check_interrupt();
      if (slot[width.words()] != 0) visit(slot, slot[width.words()]);
    }
  }
  template <class Width, class Visit>
  void for_each(Width width, Visit visit) const {
    for (Index part = 0; part < kParts; ++part) for_each(width, part, visit);
  }

  Index size_of_part(Index part) const { return parts_[part].size; }

 private:
  /// Linear probing. A slot is a stored key and its count, which is 0 if the slot is free. Threads fill neighbouring
  /// parts, so parts must not share cache lines.
  struct alignas(64) Part {
    std::vector<std::uint64_t> slots;  // (capacity, words + 1)
    Index capacity = 0;
    Index size = 0;
  };

  /// Whether a part with `size` n-grams has reached the load factor 3/4, above which searches get long.
  static bool full(const Part& part, Index size) { return 4 * size >= 3 * part.capacity; }

  /// Index of the slot where the search for a hash begins: its leading bits after those of the part, scaled to the
  /// capacity, which need not be a power of 2.
  template <class Width>
  static Index home(Width width, const Part& part, std::uint64_t hash) {
    __extension__ using Wide = unsigned __int128;
    const std::uint64_t rest = hash << kPartBits;
    return static_cast<Index>((Wide{rest} * static_cast<std::uint64_t>(part.capacity)) >> 64) * (width.words() + 1);
  }

  /// Index of the slot that holds the key, or of the free slot for it. There is always a free one.
  template <class Width>
  static Index slot_of(Width width, const Part& part, const std::uint64_t* key) {
    const Index stride = width.words() + 1;
    const Index end = part.capacity * stride;
    for (Index i = home(width, part, key[0]);;) {
      const std::uint64_t* const slot = part.slots.data() + i;
      if (slot[width.words()] == 0 || std::equal(key, key + width.words(), slot)) return i;
      i += stride;
      if (i == end) i = 0;
    }
  }

  /// Enlarges the part to hold more than `size` n-grams. If the allocation fails, nothing has changed.
  template <class Width>
  static void grow(Width width, Part& part, Index size) {
    constexpr Index kSmallest = 8;
    Part larger;
    larger.capacity = std::max({kSmallest, part.capacity + part.capacity / 2, size * 10 / 7 + 1});
    larger.slots.resize(static_cast<std::size_t>(larger.capacity * (width.words() + 1)));
    larger.size = part.size;
    const Index stride = width.words() + 1;
    for (Index i = 0; i < part.capacity * stride; i += stride) {
      const std::uint64_t* const slot = part.slots.data() + i;
      if (slot[width.words()] == 0) continue;
      std::copy_n(slot, stride, larger.slots.data() + slot_of(width, larger, slot));
    }
    part = std::move(larger);
  }

  NgramLayout layout_;
  std::vector<Part> parts_;  // (kParts,)
};

/// Symbols (layout.n,) of a stored key.
template <class Width>
void unpack_symbols(Width width, const NgramLayout& layout, const std::uint64_t* stored, Symbol* symbols) {
  typename Width::Key key = width.key();
  std::copy_n(stored, width.words(), key.data());
  unhash_key(width, key.data());
  const std::uint64_t mask = (std::uint64_t{1} << layout.bits) - 1;
  Index i = layout.n;
  for (Index w = width.words() - 1; w >= 0; --w) {
    const Index held = w > 0 ? layout.symbols_per_word : layout.symbols_of_first();
    for (Index j = 0; j < held; ++j, key[w] >>= layout.bits) symbols[--i] = static_cast<Symbol>(key[w] & mask);
  }
}

/// Stored key of symbols (layout.n,), all of which must fit the layout.
template <class Width>
void pack_symbols(Width width, const NgramLayout& layout, const Symbol* symbols, std::uint64_t* key) {
  std::fill_n(key, width.words(), 0);
  for (Index i = 0; i < layout.n; ++i) push_symbol(width, layout, symbols[i], key);
  hash_key(width, key);
}

}  // namespace fidfast
