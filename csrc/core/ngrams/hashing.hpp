// Hash functions with a random key for each process, so that texts cannot be made to collide. No result, file or order
// depends on the key.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <random>
#include <string_view>

namespace fidfast {

struct HashKey {
  std::uint64_t first;
  std::uint64_t second;
  std::uint64_t odd[2];      // multipliers of scramble()  NOLINT(modernize-use-default-member-init)
  std::uint64_t inverse[2];  // modulo 2^64

  HashKey(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) noexcept
      : first(a), second(b), odd{c | 1, d | 1} {
    for (int k = 0; k < 2; ++k) {
      inverse[k] = odd[k];  // Newton's iteration doubles the number of correct bits, 3 at first
      for (int step = 0; step < 5; ++step) inverse[k] *= 2 - odd[k] * inverse[k];
    }
  }

  static HashKey random() noexcept {
    std::uint64_t words[4];
    const auto now = static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
    std::mt19937_64 fallback(now ^ reinterpret_cast<std::uintptr_t>(&words));
    for (std::uint64_t& word : words) {
      try {
        std::random_device device;
        word = (std::uint64_t{device()} << 32) | device();
      } catch (const std::exception&) {  // no source of random numbers
        word = fallback();
      }
    }
    return {words[0], words[1], words[2], words[3]};
  }
};

inline const HashKey kHashKey = HashKey::random();

/// A mixing bijection of 64 bits, and its inverse. For any two numbers, the products with a random odd number differ in
/// their leading bits but for a share of the keys that is about the chance of a collision.
inline std::uint64_t scramble(std::uint64_t x, const HashKey& key = kHashKey) {
  x = (x ^ (x >> 32) ^ key.first) * key.odd[0];
  x = (x ^ (x >> 32)) * key.odd[1];
  return x ^ (x >> 32);
}
inline std::uint64_t unscramble(std::uint64_t x, const HashKey& key = kHashKey) {
  x = (x ^ (x >> 32)) * key.inverse[1];
  x = (x ^ (x >> 32)) * key.inverse[0];
  x ^= key.first;
  return x ^ (x >> 32);
}

/// SipHash-1-3 (Aumasson & Bernstein, "SipHash: a fast short-input PRF", 2012) with one round for each word of the text
/// and three at the end.
inline std::uint64_t hash_of_text(std::string_view text, const HashKey& key = kHashKey) {
  std::uint64_t v0 = key.first ^ 0x736f6d6570736575;
  std::uint64_t v1 = key.second ^ 0x646f72616e646f6d;
  std::uint64_t v2 = key.first ^ 0x6c7967656e657261;
  std::uint64_t v3 = key.second ^ 0x7465646279746573;
  const auto rotated = [](std::uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); };
  const auto round = [&] {
    v0 += v1;
    v1 = rotated(v1, 13) ^ v0;
    v0 = rotated(v0, 32);
    v2 += v3;
    v3 = rotated(v3, 16) ^ v2;
    v0 += v3;
    v3 = rotated(v3, 21) ^ v0;
    v2 += v1;
    v1 = rotated(v1, 17) ^ v2;
    v2 = rotated(v2, 32);
  };
  const auto absorb = [&](std::uint64_t word) {
    v3 ^= word;
    round();
    v0 ^= word;
  };
  std::size_t i = 0;
  for (; i + sizeof(std::uint64_t) <= text.size(); i += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, text.data() + i, sizeof word);
    absorb(word);
  }
  std::uint64_t rest = static_cast<std::uint64_t>(text.size()) << 56;
  std::memcpy(&rest, text.data() + i, text.size() - i);  // little endian: the last byte keeps the length
  absorb(rest);
  v2 ^= 0xff;
  for (int k = 0; k < 3; ++k) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace fidfast
