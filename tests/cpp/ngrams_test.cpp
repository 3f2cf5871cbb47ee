// N-grams: lossless packing, counts compared with a map, and the divergence compared with the textbook.
#include "core/ngrams/ngrams.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "check.hpp"
#include "core/errors.hpp"
#include "core/ngrams/counting.hpp"
#include "texts.hpp"

using namespace fidfast;
using namespace fidfast::oracle;

TEST(unscramble_inverts_scramble) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t x = random();
    CHECK(unscramble(scramble(x)) == x);
  }
}

TEST(packing_is_lossless_and_keeps_the_order) {
  std::mt19937_64 random(2);
  for (const Index n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 31, 32, 33, 64, 65, 200, 1024}) {
    for (int bits = 1; bits <= 32; ++bits) {
      const NgramLayout layout = NgramLayout::fitting(n, bits);
      CHECK(layout.bits >= bits);
      CHECK(layout.bits * layout.symbols_per_word <= 64);
      CHECK(layout.symbols_of_first() >= 1 && layout.symbols_of_first() <= layout.symbols_per_word);
      CHECK(layout.words == 1 || n * bits > 64 * (layout.words - 1) - (bits - 1) * layout.words);  // the fewest words
      with_width(layout.words, [&](auto width) {
        std::vector<Symbol> last;
        std::vector<std::uint64_t> last_key;
        for (int turn = 0; turn < 5; ++turn) {
          std::vector<Symbol> symbols(static_cast<std::size_t>(n));
          for (Symbol& symbol : symbols) symbol = static_cast<Symbol>(random() >> (64 - bits));
          auto key = width.key();
          pack_symbols(width, layout, symbols.data(), key.data());
          std::vector<Symbol> back(symbols.size());
          unpack_symbols(width, layout, key.data(), back.data());
          CHECK(back == symbols);
          unhash_key(width, key.data());
          const std::vector<std::uint64_t> plain(key.begin(), key.end());
          CHECK(last.empty() || (last < symbols) == (last_key < plain));
          last = symbols;
          last_key = plain;
        }
      });
    }
  }
}

TEST(hash_collisions_do_not_merge_ngrams) {
  // The hash of a one-word key is invertible, so hashes can be chosen: all at the beginning of the first part, and all
  // at the end of the last part, where searches wrap around.
  const NgramLayout layout = NgramLayout::fitting(2, 32);
  NgramTable table(layout);
  const FixedWidth<1> width(1);
  for (std::uint64_t i = 0; i < 300; ++i) {
    for (const std::uint64_t hash : {i, ~i}) table.add(width, NgramTable::part_of(hash), &hash, i + 1);
  }
  for (std::uint64_t i = 0; i < 300; ++i) {
    for (const std::uint64_t hash : {i, ~i}) CHECK(table.count_of(width, &hash) == i + 1);
  }
  const std::uint64_t absent = 300;
  CHECK(table.count_of(width, &absent) == 0);
  CHECK(table.num_distinct() == 600);
}

TEST(character_counts_equal_a_map) {
  std::mt19937_64 random(3);
  std::vector<std::string> narrow;
  std::vector<std::u16string> middle;
  std::vector<std::u32string> wide;
  for (const std::size_t size : {0, 1, 5, 40, 900}) {
    narrow.push_back(random_text<std::string>(random, size, 0, 200));
    middle.push_back(random_text<std::u16string>(random, size, 0xff00, 200));
    wide.push_back(random_text<std::u32string>(random, size, 0x10fff0, 16));
  }
  for (const Index n : {1, 2, 3, 4, 6, 7, 8, 9, 12, 30, 100}) {
    for (const Index threads : {1, 3}) {
      Counted expected;
      NgramTally tally(n, NgramLevel::kChar);
      const std::size_t length = static_cast<std::size_t>(n);
      count_by_map(narrow, length, expected);
      tally.count(views(narrow), threads);
      CHECK(counted(tally) == expected);
      count_by_map(middle, length, expected);  // wider symbols than before
      tally.count(views(middle), threads);
      CHECK(counted(tally) == expected);
      count_by_map(wide, length, expected);
      tally.count(views(wide), threads);
      CHECK(counted(tally) == expected);
      Index total = 0;
      for (const auto& [ngram, count] : expected) total += count;
      CHECK(tally.num_ngrams() == total);
      CHECK(tally.num_distinct() == static_cast<Index>(expected.size()));
    }
  }
}

TEST(long_texts_are_counted_across_pieces) {
  std::mt19937_64 random(4);
  const std::size_t piece = static_cast<std::size_t>(kPiece);
  std::vector<std::string> texts;
  for (const std::size_t size : {piece - 1, std::size_t{4}, 2 * piece + 7, std::size_t{0}, std::size_t{3000}}) {
    texts.push_back(random_text<std::string>(random, size, 'a', 6));
  }
  Counted expected;
  count_by_map(texts, 5, expected);
  for (const Index threads : {1, 2, 5}) CHECK(counted(tally_of(5, NgramLevel::kChar, texts, threads)) == expected);
}

TEST(merged_parts_equal_the_whole_for_any_layouts) {
  std::mt19937_64 random(5);
  const std::vector<std::string> narrow{random_text<std::string>(random, 700, 'a', 9)};
  const std::vector<std::u32string> wide{random_text<std::u32string>(random, 700, 0x1f600, 9)};
  for (const Index n : {1, 3, 4, 6, 8, 40}) {
    const NgramTally a = tally_of(n, NgramLevel::kChar, narrow);
    const NgramTally b = tally_of(n, NgramLevel::kChar, wide);
    Counted expected;
    count_by_map(narrow, static_cast<std::size_t>(n), expected);
    count_by_map(wide, static_cast<std::size_t>(n), expected);
    NgramTally ab = a;
    ab.merge(b, 1);
    NgramTally ba = b;
    ba.merge(a, 2);
    CHECK(counted(ab) == expected);
    CHECK(counted(ba) == expected);
    CHECK(ab == ba);
    CHECK(!(ab == a) && !(a == b) && !(b == ba));
    ab.merge(ab, 1);
    CHECK(ab.num_ngrams() == 2 * ba.num_ngrams());
    CHECK(ab.num_distinct() == ba.num_distinct());
  }
}

TEST(words_are_split_at_white_space) {
  const std::vector<std::u32string> texts{U"  the cat\tthe\u2003cat\u3000sat \n", U"", U"\u00a0", U"the"};
  const NgramTally pairs = tally_of(2, NgramLevel::kWord, texts);
  CHECK((counted_words(pairs) == std::map<std::string, Index>{{"the|cat", 2}, {"cat|the", 1}, {"cat|sat", 1}}));
  const NgramTally single = tally_of(1, NgramLevel::kWord, texts);
  CHECK((counted_words(single) == std::map<std::string, Index>{{"the", 3}, {"cat", 2}, {"sat", 1}}));
}

TEST(word_identity_is_independent_of_code_unit_width) {
  NgramTally tally(1, NgramLevel::kWord);
  const std::string narrow = "caf\xe9";
  const std::u16string middle = u"caf\u00e9";
  const std::u32string wide = U"caf\u00e9";
  tally.count({view(narrow), view(middle)}, 1);
  tally.count_words({view(wide), view(wide)}, {1, 1, 2}, 1);
  CHECK((counted_words(tally) == std::map<std::string, Index>{{"caf\xc3\xa9", 4}}));
}

TEST(word_order_does_not_affect_equality) {
  std::mt19937_64 random(6);
  std::vector<std::string> texts;
  for (int i = 0; i < 60; ++i) texts.push_back(random_text<std::string>(random, 100, ' ', 6));
  std::vector<std::string> reversed(texts.rbegin(), texts.rend());
  for (const Index n : {1, 2, 5}) {
    const NgramTally a = tally_of(n, NgramLevel::kWord, texts);
    const NgramTally b = tally_of(n, NgramLevel::kWord, reversed);
    CHECK(a == b);
    CHECK(ngram_jsd(a, b) == 0);
    NgramTally merged = tally_of(n, NgramLevel::kWord, std::vector<std::string>(texts.begin(), texts.begin() + 20));
    merged.merge(tally_of(n, NgramLevel::kWord, std::vector<std::string>(texts.begin() + 20, texts.end())), 1);
    CHECK(merged == a);
    CHECK(counted_words(merged) == counted_words(b));
  }
}

TEST(most_common_is_sorted_by_count_then_code_points) {
  const std::vector<std::u32string> texts{U"ba\u00e9 ba\u00e9 ab zz zz", U"\U0001f600 ab"};
  const NgramTally tally = tally_of(1, NgramLevel::kWord, texts);
  const NgramList list = tally.most_common(3);
  CHECK((list.counts == std::vector<Index>{2, 2, 2}));
  CHECK(tally.words()[list.symbols[0]] == "ab");
  CHECK(tally.words()[list.symbols[1]] == "ba\xc3\xa9");
  CHECK(tally.words()[list.symbols[2]] == "zz");
  CHECK(tally.most_common(100).counts.size() == 4);
  CHECK(tally.most_common(0).counts.empty());
  CHECK_THROWS(tally.most_common(-1), InvalidInput, "k must be at least 0, got -1");
}

TEST(divergence_equals_the_textbook) {
  std::mt19937_64 random(7);
  for (const Index n : {1, 2, 4}) {
    for (const std::uint32_t shift : {0, 1, 4, 60}) {
      const std::vector<std::string> one{random_text<std::string>(random, 20000, 'A', 12)};
      const std::vector<std::u16string> two{random_text<std::u16string>(random, 3000, 'A' + shift, 12)};
      const NgramTally a = tally_of(n, NgramLevel::kChar, one);
      const NgramTally b = tally_of(n, NgramLevel::kChar, two);
      Counted in_a;
      Counted in_b;
      count_by_map(one, static_cast<std::size_t>(n), in_a);
      count_by_map(two, static_cast<std::size_t>(n), in_b);
      Counted all = in_a;
      all.insert(in_b.begin(), in_b.end());
      long double expected = 0;
      for (const auto& [ngram, count] : all) {
        const long double p = static_cast<long double>(in_a.count(ngram) ? in_a[ngram] : 0) / a.num_ngrams();
        const long double q = static_cast<long double>(in_b.count(ngram) ? in_b[ngram] : 0) / b.num_ngrams();
        if (p > 0) expected += p * std::log2(2 * p / (p + q)) / 2;
        if (q > 0) expected += q * std::log2(2 * q / (p + q)) / 2;
      }
      // Each term has a relative error of about 4 eps, and so has a sum of nonnegative terms.
      const double jsd = ngram_jsd(a, b);
      CHECK_CLOSE(jsd, static_cast<double>(expected), 1e-15 * static_cast<double>(expected));
      CHECK(jsd == ngram_jsd(b, a));
      CHECK(shift < 60 || jsd == 1);
      NgramTally more = a;
      more.merge(a, 1);
      more.merge(a, 1);
      CHECK(ngram_jsd(a, more) == 0);
    }
  }
}

TEST(invalid_arguments_are_rejected) {
  CHECK_THROWS(NgramTally(0, NgramLevel::kChar), InvalidInput, "n must be from 1 to 1024, got 0");
  CHECK_THROWS(NgramTally(1025, NgramLevel::kChar), InvalidInput, "n must be from 1 to 1024, got 1025");
  NgramCounts four(4, NgramLevel::kChar);
  CHECK_THROWS(four.merge(NgramCounts(6, NgramLevel::kChar)), InvalidInput, "counts of n=6 and n=4");
  CHECK_THROWS(four.merge(NgramCounts(4, NgramLevel::kWord)), InvalidInput, "of level='word' and level='char'");
  CHECK_THROWS(ngram_jsd(four, NgramCounts(6, NgramLevel::kChar)), InvalidInput,
               "samples has n=4, but reference has n=6");
  CHECK_THROWS(ngram_jsd(four, four), InvalidInput, "samples has no n-grams: all of its texts are shorter than n=4");
  NgramTally tally(4, NgramLevel::kChar);
  CHECK_THROWS(tally.count({}, 0), InvalidInput, "threads must be at least 1, got 0");
}

TEST(too_many_ngrams_are_rejected) {
  NgramList list;
  list.symbols = {'a'};
  list.counts = {Index{1} << 62};
  NgramTally half(1, NgramLevel::kChar, Words(), list);
  NgramTally whole = half;
  CHECK_THROWS(whole.merge(half, 1), InvalidInput, "n-grams exceeds 9223372036854775807");
  CHECK(whole == half);
  CHECK(ngram_jsd(whole, half) == 0);
}
