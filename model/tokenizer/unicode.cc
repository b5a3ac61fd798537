#include "model/tokenizer/unicode.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>

#include <utf8proc.h>

#include "base/check.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

template <size_t N>
bool contains(const Range (&ranges)[N], char32_t code_point) {
  const Range* range = std::lower_bound(
      std::begin(ranges), std::end(ranges), code_point,
      [](const Range& candidate, char32_t value) { return candidate.last < value; });
  return range != std::end(ranges) && range->first <= code_point;
}

/// Younger than Unicode 9 and not left alone by normalisation: to the reference these are starters
/// that neither decompose nor compose.
constexpr Range kUnknownToNormalization[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},
    {0x0C3C, 0x0C3C},   {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},
    {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},   {0x32FF, 0x32FF},   {0xA7F2, 0xA7F4},
    {0xA82C, 0xA82C},   {0xAB69, 0xAB69},   {0x10781, 0x10785}, {0x10787, 0x107B0},
    {0x107B2, 0x107BA}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF},
    {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF},
    {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9}};

/// Numbers of Unicode 16 and 17, which utf8proc does not know yet.
constexpr Range kLaterNumbers[] = {{0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9},
                                   {0x11DE0, 0x11DE9}, {0x16130, 0x16139}, {0x16D70, 0x16D79},
                                   {0x16FF4, 0x16FF6}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA}};

struct CaseRange {
  char32_t first;
  char32_t last;
  int32_t to_lower;
};

/// Capital letters of Unicode 16 and 17.
constexpr CaseRange kLaterCapitals[] = {
    {0x1C89, 0x1C89, 1},    {0xA7CB, 0xA7CB, -42343}, {0xA7CC, 0xA7CC, 1}, {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},    {0xA7D4, 0xA7D4, 1},      {0xA7DA, 0xA7DA, 1}, {0xA7DC, 0xA7DC, -42561},
    {0x10D50, 0x10D65, 32}, {0x16EA0, 0x16EB8, 27}};

int32_t category_of(char32_t code_point) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code_point));
}

char32_t to_lower(char32_t code_point) {
  for (const CaseRange& range : kLaterCapitals) {
    if (code_point >= range.first && code_point <= range.last) {
      return static_cast<char32_t>(static_cast<int32_t>(code_point) + range.to_lower);
    }
  }
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point)));
}

utf8proc_option_t options_of(NormalForm form) {
  int options = UTF8PROC_STABLE;
  const bool composes = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  options |= composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kNfkc || form == NormalForm::kNfkd) options |= UTF8PROC_COMPAT;
  return static_cast<utf8proc_option_t>(options);
}

void append_normalized(std::string_view text, utf8proc_option_t options, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* raw = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &raw, options);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(raw, &std::free);
  PREGATE_CHECK(length >= 0);  // the text is valid UTF-8
  out.append(reinterpret_cast<const char*>(raw), static_cast<size_t>(length));
}

/// Cuts at the characters that the reference's normalisation does not know.
void append_normalized_run(std::string_view text, utf8proc_option_t options, std::string& out) {
  size_t segment_begin = 0;
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = code_point_at(text, pos);
    if (contains(kUnknownToNormalization, c.value)) {
      append_normalized(text.substr(segment_begin, pos - segment_begin), options, out);
      out += text.substr(pos, c.length_bytes);
      segment_begin = pos + c.length_bytes;
    }
    pos += c.length_bytes;
  }
  append_normalized(text.substr(segment_begin), options, out);
}

}  // namespace

std::string normalize(std::string_view text, NormalForm form) {
  const utf8proc_option_t options = options_of(form);
  const auto is_ascii = [&](size_t pos) { return static_cast<uint8_t>(text[pos]) < 0x80; };
  std::string out;
  out.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    // ASCII never changes and never combines with what is before it: only runs of other characters
    // are normalised, together with the one ASCII character they may combine with.
    size_t end = begin;
    while (end < text.size() && is_ascii(end)) ++end;
    const size_t run_begin = end == begin || end == text.size() ? end : end - 1;
    out += text.substr(begin, run_begin - begin);
    while (end < text.size() && !is_ascii(end)) ++end;
    append_normalized_run(text.substr(run_begin, end - run_begin), options, out);
    begin = end;
  }
  return out;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const CodePoint c = code_point_at(text, pos);
    pos += c.length_bytes;
    if (c.value == 0x130) {  // the one capital whose lower case is two code points
      out += "i\u0307";
    } else {
      append_utf8(to_lower(c.value), out);
    }
  }
  return out;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(char32_t code_point) {
  const int32_t category = category_of(code_point);
  return (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) ||
         contains(kLaterNumbers, code_point);
}

bool is_punctuation(char32_t code_point) {
  const int32_t category = category_of(code_point);
  const bool is_ascii_symbol =
      code_point < 0x80 && category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO;
  return (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) || is_ascii_symbol;
}

bool is_mark(char32_t code_point) {
  const int32_t category = category_of(code_point);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

}  // namespace pregate::model
