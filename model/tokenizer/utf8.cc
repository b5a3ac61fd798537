#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

uint8_t byte_at(std::string_view text, size_t pos) { return static_cast<uint8_t>(text[pos]); }

bool is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/// 0 for a byte that starts no character.
size_t length_from_lead(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;
}

/// Some second bytes would make an overlong form, a surrogate, or a value above U+10FFFF.
bool is_second_byte(uint8_t lead, uint8_t byte) {
  if (lead == 0xE0) return byte >= 0xA0 && byte <= 0xBF;
  if (lead == 0xED) return byte >= 0x80 && byte <= 0x9F;
  if (lead == 0xF0) return byte >= 0x90 && byte <= 0xBF;
  if (lead == 0xF4) return byte >= 0x80 && byte <= 0x8F;
  return is_continuation(byte);
}

struct Prefix {
  size_t length_bytes;  ///< Of the longest beginning of a character at `pos`; 0 if there is none.
  size_t needed_bytes;  ///< Length of the whole character.
};

Prefix longest_prefix(std::string_view bytes, size_t pos) {
  const uint8_t lead = byte_at(bytes, pos);
  const size_t needed = length_from_lead(lead);
  if (needed == 0) return {0, 0};
  size_t length = 1;
  while (length < needed && pos + length < bytes.size()) {
    const uint8_t byte = byte_at(bytes, pos + length);
    if (!(length == 1 ? is_second_byte(lead, byte) : is_continuation(byte))) break;
    ++length;
  }
  return {length, needed};
}

/// End of the valid text that starts at `pos`.
size_t skip_valid(std::string_view bytes, size_t pos) {
  while (pos < bytes.size()) {
    const Prefix prefix = longest_prefix(bytes, pos);
    if (prefix.length_bytes == 0 || prefix.length_bytes < prefix.needed_bytes) break;
    pos += prefix.length_bytes;
  }
  return pos;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t pos) {
  const uint8_t lead = byte_at(text, pos);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  char32_t value = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) value = (value << 6) | (byte_at(text, pos + i) & 0x3F);
  return {value, length};
}

CodePoint code_point_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && is_continuation(byte_at(text, begin))) --begin;
  return code_point_at(text, begin);
}

void append_utf8(char32_t code_point, std::string& out) {
  const auto tail = [&](int shift) {
    out.push_back(static_cast<char>(0x80 | ((code_point >> shift) & 0x3F)));
  };
  if (code_point < 0x80) {
    out.push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code_point >> 6)));
    tail(0);
  } else if (code_point < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code_point >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code_point >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

bool is_valid_utf8(std::string_view bytes) { return skip_valid(bytes, 0) == bytes.size(); }

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = std::move(pending_);
    pending_.clear();
    joined += bytes;
    bytes = joined;
  }
  size_t pos = 0;
  while (pos < bytes.size()) {
    const size_t valid_end = skip_valid(bytes, pos);
    out += bytes.substr(pos, valid_end - pos);
    pos = valid_end;
    if (pos == bytes.size()) return;
    const Prefix prefix = longest_prefix(bytes, pos);
    if (prefix.length_bytes > 0 && pos + prefix.length_bytes == bytes.size()) {
      pending_ = bytes.substr(pos);
      return;
    }
    out += kReplacementCharacter;
    pos += prefix.length_bytes == 0 ? 1 : prefix.length_bytes;
  }
}

void Utf8Repair::finish(std::string& out) {
  if (!pending_.empty()) out += kReplacementCharacter;
  pending_.clear();
}

std::string repair_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  Utf8Repair repair;
  repair.push(bytes, text);
  repair.finish(text);
  return text;
}

}  // namespace pregate::model
