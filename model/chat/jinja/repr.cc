#include "model/chat/jinja/repr.h"

#include <fmt/format.h>

#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

class Printer {
 public:
  std::string run(const Value& value) {
    print(value);
    return std::move(out_);
  }

 private:
  void print(const Value& value) {
    if (const auto* text = value.as_text()) {
      out_ += repr_text(*text);
    } else if (const auto* sequence = value.as_sequence()) {
      print(*sequence);
    } else if (const auto* dict = value.as_dict()) {
      print(*dict);
    } else if (const auto* object = value.as_object()) {
      out_ += object->repr();
    } else {
      out_ += value.is_undefined() ? "Undefined" : str(value);
    }
    check_text_size(out_.size());
  }

  void print(const Sequence& sequence) {
    if (!sequence.label().empty()) {
      out_ += sequence.label();
    } else if (sequence.is_list()) {
      print_items(sequence, "[", "]");
    } else if (sequence.is_tuple()) {
      print_items(sequence, "(", sequence.items().size() == 1 ? ",)" : ")");
    } else {
      out_ += type_name(sequence.kind());
      print_items(sequence, "([", "])");
    }
  }

  void print_items(const Sequence& sequence, std::string_view begin, std::string_view end) {
    out_ += begin;
    std::string_view separator = "";
    for (const Value& item : sequence.items()) {
      out_ += separator;
      print(item);
      separator = ", ";
    }
    out_ += end;
  }

  void print(const Dict& dict) {
    out_ += '{';
    std::string_view separator = "";
    for (const auto& [key, value] : dict.entries()) {
      out_ += separator;
      print(key);
      out_ += ": ";
      print(value);
      separator = ", ";
    }
    out_ += '}';
  }

  std::string out_;
};

}  // namespace

std::string str(const Value& value) {
  if (const auto* text = value.as_text()) return *text;
  if (value.is_undefined()) return "";
  if (value.is_none()) return "None";
  if (const auto* flag = value.as_bool()) return *flag ? "True" : "False";
  if (const auto* number = value.as_integer()) return std::to_string(*number);
  if (const auto* number = value.as_float()) return float_text(*number);
  return repr(value);
}

std::string repr(const Value& value) { return Printer().run(value); }

std::string repr_text(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (size_t position = 0; position < text.size();) {
    const auto [code, size_bytes] = character_at(text, position);
    if (code == static_cast<char32_t>(quote) || code == '\\') {
      out.append({'\\', static_cast<char>(code)});
    } else if (code == '\n' || code == '\r' || code == '\t') {
      out += code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t";
    } else if (is_printable(code)) {
      append_utf8(out, code);
    } else {
      const auto number = static_cast<uint32_t>(code);
      out += number < 0x100     ? fmt::format("\\x{:02x}", number)
             : number < 0x10000 ? fmt::format("\\u{:04x}", number)
                                : fmt::format("\\U{:08x}", number);
    }
    position += size_bytes;
  }
  out += quote;
  return out;
}

}  // namespace pregate::model::jinja
