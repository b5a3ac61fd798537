// Unicode properties and transformations, as the reference library sees them.
//
// The `tokenizers` library takes each from another crate, and these follow different versions of
// Unicode: normalisation knows version 9, std's numbers and lower case version 16. Where a later or
// earlier table would give other token ids, ours is held to theirs.
#pragma once

#include <string>
#include <string_view>

namespace pregate::model {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// `text` must be valid UTF-8.
std::string normalize(std::string_view text, NormalForm form);
std::string lowercase(std::string_view text);

bool is_white_space(char32_t code_point);
/// Categories Nd, Nl, No.
bool is_numeric(char32_t code_point);
/// Category P, and every ASCII character that is neither a letter, a digit nor a control.
bool is_punctuation(char32_t code_point);
/// Category M.
bool is_mark(char32_t code_point);

/// Rust's \w, for a class of a regular expression; differs from Oniguruma's (kWordClass).
inline constexpr std::string_view kRustWordClass =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D})";

}  // namespace pregate::model
