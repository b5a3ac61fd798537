#include "model/chat/jinja/json.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

std::string float_json(double number) {
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number > 0 ? "Infinity" : "-Infinity";
  return float_text(number);
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonStyle& style) : style_(style) {}

  std::string run(const Value& value) {
    write(value);
    return std::move(out_);
  }

 private:
  void write(const Value& value) {
    if (const auto* text = value.as_text()) {
      write_text(*text);
    } else if (const auto* sequence = value.as_sequence();
               sequence != nullptr && (sequence->is_list() || sequence->is_tuple())) {
      write_array(sequence->items());
    } else if (const auto* dict = value.as_dict()) {
      write_object(*dict);
    } else {
      out_ += scalar(value);
    }
    check_text_size(out_.size());
  }

  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const auto* flag = value.as_bool()) return *flag ? "true" : "false";
    if (const auto* number = value.as_integer()) return std::to_string(*number);
    if (const auto* number = value.as_float()) return float_json(*number);
    raise("Object of type {} is not JSON serializable", type_name(value));
  }

  static std::string key_text(const Value& key) {
    if (const auto* text = key.as_text()) return *text;
    const bool is_scalar = key.is_none() || as_number(key).has_value();
    if (is_scalar) return scalar(key);
    raise("keys must be str, int, float, bool or None, not {}", type_name(key));
  }

  void write_array(const std::vector<Value>& items) {
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size(); ++i) {
      separate(i == 0);
      write(items[i]);
    }
    close(']', items.empty());
  }

  void write_object(const Dict& dict) {
    std::vector<const Dict::Entry*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(), [](const auto* left, const auto* right) {
        return less(left->first, right->first);
      });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < entries.size(); ++i) {
      separate(i == 0);
      write_text(key_text(entries[i]->first));
      out_ += style_.key_separator;
      write(entries[i]->second);
    }
    close('}', entries.empty());
  }

  void separate(bool is_first) {
    if (!is_first) out_ += style_.item_separator;
    break_line();
  }

  void close(char bracket, bool is_empty) {
    --level_;
    if (!is_empty) break_line();
    out_ += bracket;
  }

  void break_line() {
    if (!style_.indent) return;
    out_ += '\n';
    out_ += repeat(*style_.indent, level_);
  }

  void write_text(std::string_view text) {
    out_ += '"';
    for (size_t position = 0; position < text.size();) {
      const auto [code, size_bytes] = character_at(text, position);
      write_character(code);
      position += size_bytes;
    }
    out_ += '"';
  }

  void write_character(char32_t code) {
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b";
    constexpr std::string_view kLetters = "\"\\nrtfb";
    const size_t at = code < 0x80 ? kEscaped.find(static_cast<char>(code)) : std::string_view::npos;
    if (at != std::string_view::npos) {
      out_.append({'\\', kLetters[at]});
    } else if (code < 0x20 || (style_.ensure_ascii && code >= 0x7f)) {
      write_escaped(code);
    } else {
      append_utf8(out_, code);
    }
  }

  void write_escaped(char32_t code) {
    auto number = static_cast<uint32_t>(code);
    if (number < 0x10000) {
      out_ += fmt::format("\\u{:04x}", number);
    } else {
      number -= 0x10000;
      out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (number >> 10), 0xdc00 + (number & 0x3ff));
    }
  }

  const JsonStyle& style_;
  std::string out_;
  int64_t level_ = 0;
};

}  // namespace

std::string to_json(const Value& value, const JsonStyle& style) {
  return JsonWriter(style).run(value);
}

}  // namespace pregate::model::jinja
