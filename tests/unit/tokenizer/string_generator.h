// The strings of the comparison with the reference; make_tokenizer_data.py has the same generator.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/json/value.hpp>

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

/// Reads and parses; a failure ends the test program.
boost::json::value read_test_json(const std::filesystem::path& path);

}  // namespace pregate::model
