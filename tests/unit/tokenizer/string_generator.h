// The strings of the comparison with the reference; make_tokenizer_data.py has the same generator.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/value.hpp>
#include <fmt/format.h>

namespace pregate::model {

/// What the strings are made of (string_tables.json).
struct StringTables {
  std::vector<std::pair<char32_t, char32_t>> ranges;  // first and last code point
  std::vector<char32_t> marks, spaces, controls, emoji, digits;
  std::vector<std::string> words, specials;

  static StringTables read(const std::filesystem::path& path);
};

/// Mixed scripts, emoji, marks, controls, runs of one character, code, special tokens.
std::string generate_string(const StringTables& tables, uint64_t seed);

/// FNV-1a with 64 bits.
class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) add_byte(static_cast<uint8_t>(byte));
  }
  void add(int32_t number) {
    for (int shift = 0; shift < 32; shift += 8) add_byte(static_cast<uint8_t>(number >> shift));
  }
  std::string hex() const { return fmt::format("{:016x}", state_); }

 private:
  void add_byte(uint8_t byte) { state_ = (state_ ^ byte) * 0x100000001B3; }

  uint64_t state_ = 0xCBF29CE484222325;
};

/// Reads and parses; a failure ends the test program.
boost::json::value read_test_json(const std::filesystem::path& path);

}  // namespace pregate::model
