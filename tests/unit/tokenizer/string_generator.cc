#include "tests/unit/tokenizer/string_generator.h"

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>

#include "base/mapped_file.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

class Generator {
 public:
  Generator(const StringTables& tables, uint64_t seed) : tables_(tables), state_(seed) {}

  std::string string() {
    const uint64_t num_segments = below(8) == 0 ? 1 + below(24) : 1 + below(6);
    std::string text;
    for (uint64_t i = 0; i < num_segments; ++i) append_segment(text);
    return text;
  }

 private:
  /// splitmix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }

  template <typename T>
  const T& pick(const std::vector<T>& table) {
    return table[below(table.size())];
  }
  void append_any_of(const std::pair<char32_t, char32_t>& range, std::string& text) {
    append_utf8(range.first + static_cast<char32_t>(below(range.second - range.first + 1)), text);
  }
  void append_run_of(const std::vector<char32_t>& table, uint64_t longest, std::string& text) {
    for (uint64_t count = 1 + below(longest); count > 0; --count) append_utf8(pick(table), text);
  }
  void append_copies(char32_t code_point, uint64_t longest, std::string& text) {
    for (uint64_t count = 1 + below(longest); count > 0; --count) append_utf8(code_point, text);
  }

  void append_segment(std::string& text) {
    switch (below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        text += pick(tables_.words);
        return;
      case 4:
        for (int i = 0; i < 2; ++i) {
          text += ' ';
          text += pick(tables_.words);
        }
        return;
      case 5:
        return append_one_script(text);
      case 6:
        for (uint64_t count = 1 + below(6); count > 0; --count) {
          append_any_of(pick(tables_.ranges), text);
        }
        return;
      case 7:
        append_any_of(pick(tables_.ranges), text);
        return append_run_of(tables_.marks, 4, text);
      case 8:
        return append_copies(pick(tables_.spaces), 5, text);
      case 9:
        return append_run_of(tables_.spaces, 10, text);
      case 10:
        return append_run_of(tables_.digits, 12, text);
      case 11:
        return append_emoji(text);
      case 12:
        return append_utf8(pick(tables_.controls), text);
      case 13:
        return append_special(text);
      case 14:
        return append_copies(static_cast<char32_t>(0x20 + below(0x5F)), 40, text);
      default:
        text += ' ';
    }
  }

  void append_one_script(std::string& text) {
    const auto& script = pick(tables_.ranges);
    for (uint64_t count = 1 + below(12); count > 0; --count) append_any_of(script, text);
  }

  void append_emoji(std::string& text) {
    static const std::vector<std::string> kJoiners = {"\u200D", "", "\uFE0F"};
    append_utf8(pick(tables_.emoji), text);
    for (uint64_t count = below(4); count > 0; --count) {
      text += pick(kJoiners);
      append_utf8(pick(tables_.emoji), text);
    }
  }

  void append_special(std::string& text) {
    static const std::vector<std::string> kBefore = {"", " ", "\n", "a"};
    static const std::vector<std::string> kAfter = {"", " ", "\n", "b"};
    text += pick(kBefore);
    text += pick(tables_.specials);
    text += pick(kAfter);
  }

  const StringTables& tables_;
  uint64_t state_;
};

}  // namespace

boost::json::value read_test_json(const std::filesystem::path& path) {
  return boost::json::parse(read_file(path).value());
}

StringTables StringTables::read(const std::filesystem::path& path) {
  const boost::json::value document = read_test_json(path);
  const auto code_points = [&](const char* name) {
    const auto numbers = boost::json::value_to<std::vector<uint32_t>>(document.at(name));
    return std::vector<char32_t>(numbers.begin(), numbers.end());
  };
  const auto strings = [&](const char* name) {
    return boost::json::value_to<std::vector<std::string>>(document.at(name));
  };
  StringTables tables;
  for (const boost::json::value& range : document.at("ranges").as_array()) {
    tables.ranges.emplace_back(boost::json::value_to<uint32_t>(range.at(0)),
                               boost::json::value_to<uint32_t>(range.at(1)));
  }
  tables.marks = code_points("marks");
  tables.spaces = code_points("spaces");
  tables.controls = code_points("controls");
  tables.emoji = code_points("emoji");
  tables.digits = code_points("digits");
  tables.words = strings("words");
  tables.specials = strings("specials");
  return tables;
}

std::string generate_string(const StringTables& tables, uint64_t seed) {
  return Generator(tables, seed).string();
}

}  // namespace pregate::model
