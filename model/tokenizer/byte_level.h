// GPT-2's alphabet: each byte is written as one printable character ("Ġ" for a space).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pregate::model {

/// Appends the character of each byte.
void append_byte_characters(std::string_view bytes, std::string& out);
std::optional<uint8_t> byte_of_character(char32_t character);

}  // namespace pregate::model
