// Views of texts, and the numbering of words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/errors.hpp"
#include "core/matrix.hpp"
#include "core/ngrams/hashing.hpp"
#include "core/ngrams/table.hpp"

namespace fidfast {

/// View of a text, or of a sequence of word numbers: symbols of 1, 2 or 4 bytes each.
struct TextView {
  const void* data = nullptr;
  Index size = 0;
  int unit = 1;
};

/// Calls work(units) with a pointer to the code units.
template <class Work>
auto with_units(const TextView& text, Work work) {
  if (text.unit == 1) return work(static_cast<const std::uint8_t*>(text.data));
  if (text.unit == 2) return work(static_cast<const std::uint16_t*>(text.data));
  return work(static_cast<const std::uint32_t*>(text.data));
}

/// Where Python's str.split() splits: Unicode white space and the separators 1c to 1f.
inline bool is_space(std::uint32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
         c == 0x202f || c == 0x205f || c == 0x3000;
}

/// Appends a code point in UTF-8, including lone surrogates as Python's "surrogatepass" does. The encoding is
/// one-to-one and keeps the order of the code points.
inline void append_utf8(std::string& text, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  const auto put_rest = [&](int shift) { put(0x80 | ((c >> shift) & 0x3f)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | (c >> 6));
    put_rest(0);
  } else if (c < 0x10000) {
    put(0xe0 | (c >> 12));
    put_rest(6);
    put_rest(0);
  } else {
    put(0xf0 | (c >> 18));
    put_rest(12);
    put_rest(6);
    put_rest(0);
  }
}

/// Distinct words, numbered in order of insertion.
class Words {
 public:
  Index size() const { return static_cast<Index>(ends_.size()); }

  std::string_view operator[](Symbol word) const {
    const std::size_t first = word == 0 ? 0 : ends_[word - 1];
    return std::string_view(letters_).substr(first, ends_[word] - first);
  }

  /// Number of the word, or kNoSymbol if it has none.
  Symbol find(std::string_view word) const { return slots_.empty() ? kNoSymbol : word_in(slots_[slot_of(word)]); }

  /// Number of the word; inserts it if necessary. If an allocation fails, nothing has changed.
  Symbol number(std::string_view word) {
    if (2 * (ends_.size() + 1) > slots_.size()) grow();
    const std::size_t slot = slot_of(word);
    if (slots_[slot] != kFree) return word_in(slots_[slot]);
    if (ends_.size() >= kNoSymbol) throw InvalidInput("texts hold more than 4294967295 distinct words");
    letters_.resize(ends_.empty() ? 0 : ends_.back());  // an earlier call may have failed after the next line
    letters_.append(word);
    ends_.push_back(letters_.size());
    slots_[slot] = slot_with(hash(word), static_cast<Symbol>(ends_.size() - 1));
    return word_in(slots_[slot]);
  }

  Index num_bytes() const {
    return static_cast<Index>(letters_.capacity() + ends_.capacity() * sizeof(std::size_t) +
                              slots_.capacity() * sizeof(std::uint64_t));
  }

 private:
  /// A slot holds the number of a word in the lower 32 bits, and the upper 32 bits of its hash.
  static constexpr std::uint64_t kFree = 0x00000000ffffffff;

  static std::uint64_t hash(std::string_view word) { return hash_of_text(word); }
  static Symbol word_in(std::uint64_t slot) { return static_cast<Symbol>(slot); }
  static std::uint64_t slot_with(std::uint64_t hash, Symbol word) { return (hash & ~kFree) | word; }

  std::size_t slot_of(std::string_view word) const {
    const std::uint64_t wanted = hash(word);
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = wanted & mask;; i = (i + 1) & mask) {
      const std::uint64_t slot = slots_[i];
      if (slot == kFree || ((slot ^ wanted) <= kFree && (*this)[word_in(slot)] == word)) return i;
    }
  }

  void grow() {
    constexpr std::size_t kSmallest = 16;
    std::vector<std::uint64_t> larger(slots_.empty() ? kSmallest : 2 * slots_.size(), kFree);
    for (Symbol word = 0; word < ends_.size(); ++word) {
      const std::uint64_t its_hash = hash((*this)[word]);
      std::size_t i = its_hash & (larger.size() - 1);
      while (larger[i] != kFree) i = (i + 1) & (larger.size() - 1);
      larger[i] = slot_with(its_hash, word);
    }
    slots_ = std::move(larger);
  }

  std::string letters_;               // all words in UTF-8, without gaps
  std::vector<std::size_t> ends_;     // (size(),) end of each word in letters_
  std::vector<std::uint64_t> slots_;  // a power of 2, at most half full
};

}  // namespace fidfast
