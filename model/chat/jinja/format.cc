#include "model/chat/jinja/format.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "model/chat/jinja/attributes.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/numbers.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

constexpr int64_t kMaxPrecision = 400;  // more digits than any double has before its point

/// How one value is to be laid out, in either notation.
struct Layout {
  char32_t fill = U' ';
  char align = '\0';  // '<', '>', '^', '=' (after the sign), or by type
  char sign = '-';    // '+': always, ' ': a space for positive numbers
  bool alternate = false;
  char grouping = '\0';  // ',' or '_'
  int64_t width = 0;
  int64_t precision = -1;  // -1: by type
  char type = '\0';
};

int64_t read_digits(std::string_view text, size_t& position) {
  int64_t number = 0;
  while (position < text.size() && text[position] >= '0' && text[position] <= '9') {
    number = std::min<int64_t>(number * 10 + (text[position++] - '0'), 1LL << 40);
  }
  return number;
}

std::string pad(const std::string& text, const Layout& layout, char default_align) {
  const char align = layout.align == '\0' ? default_align : layout.align;
  const int64_t missing = layout.width - length(text);
  if (missing <= 0) return text;
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  const size_t sign_size =
      align == '=' && !text.empty() && std::string_view("+- ").find(text[0]) != std::string::npos
          ? 1
          : 0;
  std::string fill;
  append_utf8(fill, layout.fill);
  return text.substr(0, sign_size) + repeat(fill, before) + text.substr(sign_size) +
         repeat(fill, missing - before);
}

std::string with_sign(bool is_negative, const std::string& digits, const Layout& layout) {
  if (is_negative) return fmt::format("-{}", digits);
  return layout.sign == '-' ? digits : fmt::format("{}{}", layout.sign, digits);
}

std::string group_digits(std::string digits, char separator) {
  if (separator == '\0') return digits;
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t i = whole; i > 3; i -= 3) digits.insert(i - 3, 1, separator);
  return digits;
}

std::string layout_integer(int64_t number, const Layout& layout) {
  const uint64_t size =
      number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
  std::string digits;
  std::string_view prefix;
  switch (layout.type) {
    case 'x':
      digits = fmt::format("{:x}", size);
      prefix = "0x";
      break;
    case 'X':
      digits = fmt::format("{:X}", size);
      prefix = "0X";
      break;
    case 'o':
      digits = fmt::format("{:o}", size);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", size);
      prefix = "0b";
      break;
    default:
      digits = group_digits(std::to_string(size), layout.grouping);
  }
  if (layout.alternate) digits.insert(0, prefix);
  return pad(with_sign(number < 0, digits, layout), layout, '>');
}

std::string fixed(double size, int64_t precision, char type) {
  switch (type) {
    case 'e':
      return fmt::format("{:.{}e}", size, precision);
    case 'E':
      return fmt::format("{:.{}E}", size, precision);
    case 'g':
      return fmt::format("{:.{}g}", size, precision);
    case 'G':
      return fmt::format("{:.{}G}", size, precision);
    case 'F':
      return fmt::format("{:.{}F}", size, precision);
    default:
      return fmt::format("{:.{}f}", size, precision);
  }
}

std::string layout_float(double number, const Layout& layout) {
  const double size = std::abs(number);
  const int64_t precision = std::min(layout.precision < 0 ? 6 : layout.precision, kMaxPrecision);
  std::string digits;
  if (!std::isfinite(size)) {
    digits = std::isnan(size) ? "nan" : "inf";
  } else if (layout.type == '%') {
    digits = fmt::format("{:.{}f}%", size * 100, precision);
  } else if (layout.type == '\0' && layout.precision < 0) {
    digits = float_text(size);
  } else {
    digits = fixed(size, precision, layout.type == '\0' ? 'g' : layout.type);
  }
  digits = group_digits(std::move(digits), layout.grouping);
  return pad(with_sign(std::signbit(number) && !std::isnan(number), digits, layout), layout, '>');
}

std::string layout_text(std::string_view text, const Layout& layout) {
  std::string shown(text);
  if (layout.precision >= 0) {
    shown = to_utf8(to_utf32(text).substr(0, static_cast<size_t>(layout.precision)));
  }
  return pad(shown, layout, '<');
}

/// "%..." conversions.
class PercentFormatter {
 public:
  PercentFormatter(std::string_view format, const Value& values)
      : format_(format), values_(values) {
    const auto* sequence = values.as_sequence();
    is_tuple_ = sequence != nullptr && sequence->is_tuple();
  }

  Value run() {
    std::string out;
    while (position_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', position_), format_.size());
      out += format_.substr(position_, percent - position_);
      position_ = percent + 1;
      if (percent < format_.size()) out += conversion();
      check_text_size(out.size());
    }
    const size_t given = is_tuple_ ? values_.as_sequence()->items().size() : 1;
    const bool takes_all =
        !is_tuple_ && (values_.as_dict() != nullptr || values_.as_sequence() != nullptr);
    if (taken_ < given && !takes_all) raise("not all arguments converted during string formatting");
    return out;
  }

 private:
  char peek() const {
    if (position_ >= format_.size()) raise("incomplete format");
    return format_[position_];
  }

  std::string conversion() {
    Layout layout;
    const Value* named = peek() == '(' ? &read_key() : nullptr;
    read_flags(layout);
    layout.width = read_size(layout.width);
    if (peek() == '.') {
      ++position_;
      layout.precision = read_size(0);
    }
    while (std::string_view("hlL").find(peek()) != std::string_view::npos) ++position_;
    layout.type = format_[position_++];
    if (layout.type == '%') return "%";
    return convert(named != nullptr ? *named : next_value(), layout);
  }

  const Value& read_key() {
    const size_t end = format_.find(')', position_);
    if (end == std::string_view::npos) raise("incomplete format key");
    const std::string_view key = format_.substr(position_ + 1, end - position_ - 1);
    if (values_.as_dict() == nullptr) raise("format requires a mapping");
    const Value* value = values_.as_dict()->find(key);
    if (value == nullptr) raise("format has no key {}", repr_text(key));
    position_ = end + 1;
    taken_ = 1;
    return *value;
  }

  void read_flags(Layout& layout) {
    for (;; ++position_) {
      const char flag = peek();
      if (flag == '-') {
        layout.align = '<';
        layout.fill = U' ';
      } else if (flag == '+' || (flag == ' ' && layout.sign != '+')) {
        layout.sign = flag;
      } else if (flag == '0') {
        if (layout.align == '\0') layout = zero_padded(layout);
      } else if (flag == '#') {
        layout.alternate = true;
      } else if (flag != ' ') {
        return;
      }
    }
  }

  static Layout zero_padded(Layout layout) {
    layout.align = '=';
    layout.fill = U'0';
    return layout;
  }

  int64_t read_size(int64_t fallback) {
    if (peek() != '*') return std::max(read_digits(format_, position_), fallback);
    ++position_;
    const auto number = as_whole_number(next_value());
    if (!number) raise("* wants int");
    return std::clamp<int64_t>(*number, 0, 1LL << 40);
  }

  const Value& next_value() {
    const size_t index = taken_++;
    if (!is_tuple_ && index == 0) return values_;
    if (!is_tuple_ || index >= values_.as_sequence()->items().size()) {
      raise("not enough arguments for format string");
    }
    return values_.as_sequence()->items()[index];
  }

  static std::string convert(const Value& value, Layout layout) {
    if (layout.type == 's' || layout.type == 'r' || layout.type == 'a') {
      if (layout.align == '=') layout = text_layout(layout);
      if (layout.align == '\0') layout.align = '>';
      return layout_text(layout.type == 's' ? str(value) : repr(value), layout);
    }
    if (layout.type == 'c') return layout_text(character(value), layout);
    const auto number = as_number(value);
    if (!number) {
      require_defined(value);
      raise("%{} format: a real number is required, not {}", layout.type, type_name(value));
    }
    if (std::string_view("eEfFgG").find(layout.type) != std::string_view::npos) {
      return layout_float(*number, layout);
    }
    if (std::string_view("diuxXo").find(layout.type) == std::string_view::npos) {
      raise("unsupported format character '{}'", layout.type);
    }
    const auto whole = as_whole_number(value);
    return layout_integer(whole ? *whole : truncate_to_integer(*number), layout);
  }

  static Layout text_layout(Layout layout) {
    layout.align = '>';
    layout.fill = U' ';
    return layout;
  }

  static std::string character(const Value& value) {
    if (value.as_text() != nullptr && length(*value.as_text()) == 1) return *value.as_text();
    const auto code = as_whole_number(value);
    if (!code || *code < 0 || *code > 0x10ffff) raise("%c requires int or char");
    std::string text;
    append_utf8(text, static_cast<char32_t>(*code));
    return text;
  }

  std::string_view format_;
  const Value& values_;
  bool is_tuple_ = false;
  size_t position_ = 0;
  size_t taken_ = 0;
};

Layout parse_layout(std::string_view text) {
  Layout layout;
  constexpr std::string_view kAligns = "<>^=";
  const auto is_align = [&](size_t at) {
    return at < text.size() && kAligns.find(text[at]) != std::string_view::npos;
  };
  size_t position = 0;
  const size_t first_size = text.empty() ? 0 : character_at(text, 0).size_bytes;
  if (is_align(first_size)) {
    layout.fill = character_at(text, 0).code;
    position = first_size;
  }
  if (is_align(position)) layout.align = text[position++];
  const auto skip = [&](std::string_view any_of) {
    const bool found =
        position < text.size() && any_of.find(text[position]) != std::string_view::npos;
    return found ? text[position++] : '\0';
  };
  if (const char sign = skip("+- ")) layout.sign = sign;
  layout.alternate = skip("#") != '\0';
  if (skip("0") != '\0' && layout.align == '\0') {
    layout.align = '=';
    layout.fill = U'0';
  }
  layout.width = read_digits(text, position);
  layout.grouping = skip(",_");
  if (skip(".") != '\0') layout.precision = read_digits(text, position);
  layout.type = skip("sdxXobeEfFgGn%c");
  if (position < text.size()) raise("Invalid format specifier '{}'", text);
  return layout;
}

std::string format_value(const Value& value, std::string_view specification) {
  if (specification.empty()) return str(value);
  Layout layout = parse_layout(specification);
  const bool wants_float =
      std::string_view("eEfFgG%").find(layout.type) != std::string_view::npos &&
      layout.type != '\0';
  const auto number = as_number(value);
  if (value.as_text() == nullptr && !number) {
    raise("unsupported format string passed to {}.__format__", type_name(value));
  }
  const bool is_text = value.as_text() != nullptr;
  if (is_text != (layout.type == 's') && layout.type != '\0' && (is_text || layout.type == 's')) {
    raise("Unknown format code '{}' for object of type '{}'", layout.type, type_name(value));
  }
  if (is_text) return layout_text(*value.as_text(), layout);
  if (value.as_float() != nullptr || wants_float) return layout_float(*number, layout);
  return layout_integer(*as_whole_number(value), layout);
}

/// "{...}" replacement fields.
class BraceFormatter {
 public:
  BraceFormatter(std::string_view format, const Arguments& arguments)
      : format_(format), arguments_(arguments) {}

  Value run() {
    std::string out;
    while (position_ < format_.size()) {
      const char c = format_[position_++];
      const bool is_double = position_ < format_.size() && format_[position_] == c;
      if ((c == '{' || c == '}') && is_double) {
        out += c;
        ++position_;
      } else if (c == '{') {
        out += field();
      } else if (c == '}') {
        raise("Single '}}' encountered in format string");
      } else {
        out += c;
      }
      check_text_size(out.size());
    }
    return out;
  }

 private:
  std::string field() {
    const size_t end = format_.find('}', position_);
    if (end == std::string_view::npos) raise("expected '}}' before end of string");
    std::string_view inner = format_.substr(position_, end - position_);
    if (inner.find('{') != std::string_view::npos) raise("nested format fields are not supported");
    position_ = end + 1;
    const size_t name_size = std::min(inner.find_first_of("!:"), inner.size());
    Value value = lookup(inner.substr(0, name_size));
    inner.remove_prefix(name_size);
    if (inner.starts_with("!") && inner.size() > 1) {
      if (inner[1] != 's' && inner[1] != 'r') raise("Unknown conversion specifier '{}'", inner[1]);
      value = inner[1] == 'r' ? repr(value) : str(value);
      inner.remove_prefix(2);
    }
    if (inner.starts_with(":")) inner.remove_prefix(1);
    return format_value(value, inner);
  }

  Value lookup(std::string_view path) {
    const size_t first = std::min(path.find_first_of(".["), path.size());
    Value value = root(path.substr(0, first));
    path.remove_prefix(first);
    while (!path.empty()) {
      const bool is_item = path[0] == '[';
      path.remove_prefix(1);
      const size_t size = std::min(path.find_first_of(is_item ? "]" : ".["), path.size());
      const std::string_view name = path.substr(0, size);
      const auto index = is_item ? parse_integer(name, 10) : std::nullopt;
      value = !is_item ? get_attribute(value, name)
                       : get_item(value, index ? Value(*index) : Value(name));
      path.remove_prefix(std::min(size + (is_item ? 1 : 0), path.size()));
    }
    return value;
  }

  Value root(std::string_view name) {
    const auto index = name.empty() ? std::optional<int64_t>(next_++) : parse_integer(name, 10);
    if (!index) {
      const Value* value = arguments_.keyword(name);
      if (value == nullptr) raise("format has no argument {}", repr_text(name));
      return *value;
    }
    if (*index < 0 || *index >= std::ssize(arguments_.positional)) {
      raise("Replacement index {} out of range for positional args tuple", *index);
    }
    return arguments_.positional[static_cast<size_t>(*index)];
  }

  std::string_view format_;
  const Arguments& arguments_;
  size_t position_ = 0;
  int64_t next_ = 0;
};

}  // namespace

Value format_percent(std::string_view format, const Value& values) {
  return PercentFormatter(format, values).run();
}

Value format_braces(std::string_view format, const Arguments& arguments) {
  return BraceFormatter(format, arguments).run();
}

}  // namespace pregate::model::jinja
