#include "model/chat/jinja/text.h"

#include <algorithm>
#include <cstring>

#include <utf8proc.h>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"

namespace pregate::model::jinja {
namespace {

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool is_upper_letter(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LU; }
bool is_lower_letter(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LL; }
bool is_title_letter(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LT; }
bool is_cased(char32_t code) {
  return is_upper_letter(code) || is_lower_letter(code) || is_title_letter(code);
}

bool is_line_end(char32_t code) {
  return (code >= '\n' && code <= '\r') || (code >= 0x1c && code <= 0x1e) || code == 0x85 ||
         code == 0x2028 || code == 0x2029;
}

// The two common letters whose other case is two characters.
constexpr char32_t kSharpS = 0xdf;
constexpr char32_t kDottedI = 0x130;

void append_upper(std::string& out, char32_t code, bool titled) {
  if (code == kSharpS) {
    out += titled ? "Ss" : "SS";
    return;
  }
  const auto number = static_cast<utf8proc_int32_t>(code);
  append_utf8(out,
              static_cast<char32_t>(titled ? utf8proc_totitle(number) : utf8proc_toupper(number)));
}

void append_lower(std::string& out, char32_t code) {
  if (code == kDottedI) {
    out += "i\u0307";
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
}

template <typename Function>
void for_each_character(std::string_view text, Function&& function) {
  for (size_t position = 0; position < text.size();) {
    const Character character = character_at(text, position);
    function(character.code, text.substr(position, character.size_bytes));
    position += character.size_bytes;
  }
}

std::string reversed_bytes(std::string_view text) { return {text.rbegin(), text.rend()}; }

/// How many bytes of characters that `matches` lead (or, from_right, end) the text.
template <typename Predicate>
size_t matching_bytes(std::string_view text, bool from_right, Predicate&& matches) {
  size_t size = 0;
  while (size < text.size()) {
    size_t position = size;
    if (from_right) {
      position = text.size() - size - 1;
      while (position > 0 && (text[position] & 0xc0) == 0x80) --position;
    }
    const Character character = character_at(text, position);
    if (!matches(character.code)) break;
    size = from_right ? text.size() - position : size + character.size_bytes;
  }
  return size;
}

}  // namespace

Character character_at(std::string_view text, size_t position) {
  const auto first = static_cast<unsigned char>(text[position]);
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t code = -1;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data() + position);
  const auto size =
      utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size() - position), &code);
  if (size <= 0 || code < 0) return {0xfffd, 1};
  return {static_cast<char32_t>(code), static_cast<size_t>(size)};
}

void append_utf8(std::string& text, char32_t code) {
  utf8proc_uint8_t bytes[4];
  auto number = static_cast<utf8proc_int32_t>(code);
  if (!utf8proc_codepoint_valid(number)) number = 0xfffd;
  const auto size = utf8proc_encode_char(number, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
}

bool is_utf8(std::string_view text) {
  for (size_t position = 0; position < text.size();) {
    const Character character = character_at(text, position);
    if (character.code == 0xfffd && character.size_bytes == 1) return false;
    position += character.size_bytes;
  }
  return true;
}

std::u32string to_utf32(std::string_view text) {
  std::u32string out;
  for_each_character(text, [&](char32_t code, std::string_view) { out += code; });
  return out;
}

std::string to_utf8(std::u32string_view text) {
  std::string out;
  for (const char32_t code : text) append_utf8(out, code);
  return out;
}

int64_t length(std::string_view text) {
  int64_t count = 0;
  for_each_character(text, [&](char32_t, std::string_view) { ++count; });
  return count;
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> out;
  for_each_character(text, [&](char32_t, std::string_view bytes) {
    out.emplace_back(bytes);
    check_count(out.size());
  });
  return out;
}

bool is_space(char32_t code) {
  return (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= ' ') || code == 0x85 ||
         code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
         code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool is_printable(char32_t code) {
  if (code == ' ') return true;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    default:
      return true;
  }
}

bool is_alphabetic(char32_t code) {
  const auto kind = category(code);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }

bool is_word(char32_t code) {
  const auto kind = category(code);
  return code == '_' || is_alphabetic(code) ||
         (kind >= UTF8PROC_CATEGORY_ND && kind <= UTF8PROC_CATEGORY_NO);
}

std::string upper(std::string_view text) {
  std::string out;
  for_each_character(text,
                     [&](char32_t code, std::string_view) { append_upper(out, code, false); });
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t code, std::string_view) { append_lower(out, code); });
  return out;
}

std::string capitalize(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t code, std::string_view) {
    out.empty() ? append_upper(out, code, true) : append_lower(out, code);
  });
  return out;
}

std::string swap_case(std::string_view text) {
  std::string out;
  for_each_character(text, [&](char32_t code, std::string_view) {
    is_upper_letter(code) ? append_lower(out, code) : append_upper(out, code, false);
  });
  return out;
}

std::string title(std::string_view text) {
  std::string out;
  bool in_word = false;
  for_each_character(text, [&](char32_t code, std::string_view) {
    in_word ? append_lower(out, code) : append_upper(out, code, true);
    in_word = is_cased(code);
  });
  return out;
}

bool is_upper(std::string_view text) {
  bool any = false;
  bool all = true;
  for_each_character(text, [&](char32_t code, std::string_view) {
    any |= is_upper_letter(code);
    all &= !is_lower_letter(code) && !is_title_letter(code);
  });
  return any && all;
}

bool is_lower(std::string_view text) {
  bool any = false;
  bool all = true;
  for_each_character(text, [&](char32_t code, std::string_view) {
    any |= is_lower_letter(code);
    all &= !is_upper_letter(code) && !is_title_letter(code);
  });
  return any && all;
}

std::string_view strip(std::string_view text, bool left, bool right) {
  if (left) text.remove_prefix(matching_bytes(text, false, is_space));
  if (right) text.remove_suffix(matching_bytes(text, true, is_space));
  return text;
}

std::string strip_of(std::string_view text, std::string_view chars, bool left, bool right) {
  std::u32string set = to_utf32(chars);
  std::sort(set.begin(), set.end());
  const auto in_set = [&](char32_t code) {
    return std::binary_search(set.begin(), set.end(), code);
  };
  if (left) text.remove_prefix(matching_bytes(text, false, in_set));
  if (right) text.remove_suffix(matching_bytes(text, true, in_set));
  return std::string(text);
}

size_t find_bytes(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  if (needle.size() == 1) return text.find(needle[0], from);
  const void* found =
      ::memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t find_last_bytes(std::string_view text, std::string_view needle) {
  const size_t from_end = find_bytes(reversed_bytes(text), reversed_bytes(needle));
  return from_end == std::string_view::npos ? from_end : text.size() - from_end - needle.size();
}

namespace {

/// Python replaces the empty text before each character and at the end.
std::string replace_empty(std::string_view text, std::string_view new_part, int64_t count) {
  std::string out;
  check_text_size(text.size() + (text.size() + 1) * new_part.size());
  for_each_character(text, [&](char32_t, std::string_view bytes) {
    if (count != 0) {
      out += new_part;
      --count;
    }
    out += bytes;
  });
  if (count != 0) out += new_part;
  return out;
}

}  // namespace

std::string replace(std::string_view text, std::string_view old_part, std::string_view new_part,
                    int64_t count) {
  if (old_part.empty()) return replace_empty(text, new_part, count);
  std::string out;
  size_t begin = 0;
  for (; count != 0; --count) {
    const size_t found = find_bytes(text, old_part, begin);
    if (found == std::string_view::npos) break;
    check_text_size(out.size() + (found - begin) + new_part.size());
    out.append(text, begin, found - begin).append(new_part);
    begin = found + old_part.size();
  }
  return out.append(text.substr(begin));
}

std::vector<std::string> split(std::string_view text, std::string_view separator, int64_t count) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (; count != 0; --count) {
    const size_t found = find_bytes(text, separator, begin);
    if (found == std::string_view::npos) break;
    parts.emplace_back(text.substr(begin, found - begin));
    check_count(parts.size());
    begin = found + separator.size();
  }
  parts.emplace_back(text.substr(begin));
  return parts;
}

std::vector<std::string> split_from_right(std::string_view text, std::string_view separator,
                                          int64_t count) {
  auto parts = split(reversed_bytes(text), reversed_bytes(separator), count);
  for (std::string& part : parts) part = reversed_bytes(part);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_space(std::string_view text, int64_t count) {
  std::vector<std::string> parts;
  const auto is_black = [](char32_t code) { return !is_space(code); };
  for (text = strip(text, true, false); !text.empty(); text = strip(text, true, false)) {
    const size_t size = count == 0 ? text.size() : matching_bytes(text, false, is_black);
    parts.emplace_back(text.substr(0, size));
    check_count(parts.size());
    text.remove_prefix(size);
    if (count > 0) --count;
  }
  return parts;
}

std::vector<std::string> split_space_from_right(std::string_view text, int64_t count) {
  std::vector<std::string> parts;
  const auto is_black = [](char32_t code) { return !is_space(code); };
  for (text = strip(text, false, true); !text.empty(); text = strip(text, false, true)) {
    const size_t size = count == 0 ? text.size() : matching_bytes(text, true, is_black);
    parts.emplace_back(text.substr(text.size() - size));
    check_count(parts.size());
    text.remove_suffix(size);
    if (count > 0) --count;
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t position = 0; position < text.size();) {
    const Character character = character_at(text, position);
    size_t next = position + character.size_bytes;
    if (is_line_end(character.code)) {
      if (character.code == '\r' && next < text.size() && text[next] == '\n') ++next;
      lines.emplace_back(text.substr(begin, (keep_ends ? next : position) - begin));
      check_count(lines.size());
      begin = next;
    }
    position = next;
  }
  if (begin < text.size()) lines.emplace_back(text.substr(begin));
  return lines;
}

std::string repeat(std::string_view text, int64_t count) {
  std::string out;
  if (count <= 0 || text.empty()) return out;
  if (static_cast<uint64_t>(count) > kMaxTextBytes) check_text_size(kMaxTextBytes + 1);
  check_text_size(text.size() * static_cast<uint64_t>(count));
  if (text.size() == 1) return std::string(static_cast<size_t>(count), text[0]);
  out.reserve(text.size() * static_cast<size_t>(count));
  for (; count > 0; --count) out += text;
  return out;
}

void check_count(size_t count) {
  if (count > kMaxElements) raise_exhausted("makes a list of more than {} elements", kMaxElements);
}

void check_text_size(uint64_t size_bytes) {
  if (size_bytes > kMaxTextBytes) {
    raise_exhausted("makes a text of more than {} bytes", kMaxTextBytes);
  }
}

}  // namespace pregate::model::jinja
