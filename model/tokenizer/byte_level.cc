#include "model/tokenizer/byte_level.h"

#include <array>

#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;  // bytes that do not print follow from here, in order
constexpr size_t kNumSubstitutes = 68;

constexpr bool prints(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<std::string, 256> character_of_byte;
  std::array<uint8_t, kNumSubstitutes> byte_of_substitute{};
};

const Alphabet& alphabet() {
  static const Alphabet instance = [] {
    Alphabet table;
    size_t num_substitutes = 0;
    for (int byte = 0; byte < 256; ++byte) {
      auto character = static_cast<char32_t>(byte);
      if (!prints(byte)) {
        table.byte_of_substitute[num_substitutes] = static_cast<uint8_t>(byte);
        character = kFirstSubstitute + static_cast<char32_t>(num_substitutes++);
      }
      append_utf8(character, table.character_of_byte[static_cast<size_t>(byte)]);
    }
    return table;
  }();
  return instance;
}

}  // namespace

void append_byte_characters(std::string_view bytes, std::string& out) {
  const Alphabet& table = alphabet();
  for (const char byte : bytes) out += table.character_of_byte[static_cast<uint8_t>(byte)];
}

std::optional<uint8_t> byte_of_character(char32_t character) {
  if (character < 0x100) {
    if (prints(static_cast<int>(character))) return static_cast<uint8_t>(character);
    return std::nullopt;
  }
  const size_t substitute = character - kFirstSubstitute;
  if (substitute >= kNumSubstitutes) return std::nullopt;
  return alphabet().byte_of_substitute[substitute];
}

}  // namespace pregate::model
