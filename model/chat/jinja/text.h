// Python's str on UTF-8: lengths, positions and cases go by code points. Bytes that are not UTF-8
// count as one U+FFFD each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pregate::model::jinja {

struct Character {
  char32_t code;
  size_t size_bytes;
};
/// Precondition: position < text.size().
Character character_at(std::string_view text, size_t position);
void append_utf8(std::string& text, char32_t code);
bool is_utf8(std::string_view text);
std::u32string to_utf32(std::string_view text);
std::string to_utf8(std::u32string_view text);

int64_t length(std::string_view text);
std::vector<std::string> characters(std::string_view text);

bool is_space(char32_t code);
bool is_printable(char32_t code);
/// Part of a word or identifier: a letter, digit or underscore.
bool is_word(char32_t code);
bool is_digit(char32_t code);
bool is_alphabetic(char32_t code);

std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
std::string swap_case(std::string_view text);
/// Each run of letters begins upper case.
std::string title(std::string_view text);
bool is_upper(std::string_view text);
bool is_lower(std::string_view text);

/// Without the characters of `chars` (by default white space) at the ends that `left` and `right`
/// name.
std::string_view strip(std::string_view text, bool left, bool right);
std::string strip_of(std::string_view text, std::string_view chars, bool left, bool right);

/// Byte position of `needle` at or after `from`, or npos. Linear in the worst case, unlike
/// std::string::find.
size_t find_bytes(std::string_view text, std::string_view needle, size_t from = 0);
/// Byte position of the last `needle`, or npos.
size_t find_last_bytes(std::string_view text, std::string_view needle);
std::string replace(std::string_view text, std::string_view old_part, std::string_view new_part,
                    int64_t count);
/// `count` < 0: all. split_from_right counts from the end.
std::vector<std::string> split(std::string_view text, std::string_view separator, int64_t count);
std::vector<std::string> split_from_right(std::string_view text, std::string_view separator,
                                          int64_t count);
std::vector<std::string> split_space(std::string_view text, int64_t count);
std::vector<std::string> split_space_from_right(std::string_view text, int64_t count);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string repeat(std::string_view text, int64_t count);

/// Raises when a text of that size would be over the limit; call it before making a long one.
void check_text_size(uint64_t size_bytes);
/// The same for the number of pieces of a text.
void check_count(size_t count);

}  // namespace pregate::model::jinja
