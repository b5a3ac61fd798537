// Small tokenizers written in the tests themselves.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/tokenizer/json_tokenizer.h"

namespace pregate::model {

/// Tokens a to e, "ab", "abc", "▁", "▁a", <unk>, and 16 bytes; merges to "ab", "abc", "▁a".
inline constexpr std::string_view kSmallVocab =
    R"("vocab": {"<unk>": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "ab": 6, "abc": 7, "▁": 8,)"
    R"( "▁a": 9, " ": 10, "<0xC3>": 11, "<0xA9>": 12, "A": 13, "<s>": 14},)"
    R"( "merges": ["a b", ["ab", "c"], "▁ a"])";

/// A whole tokenizer.json; both arguments begin with a comma unless empty.
inline std::string small_json(std::string_view model_fields, std::string_view other_fields) {
  return fmt::format(R"({{"version": "1.0", "model": {{"type": "BPE", {}{}}}{}}})", kSmallVocab,
                     model_fields, other_fields);
}

inline std::unique_ptr<Tokenizer> small_tokenizer(std::string_view model_fields,
                                                  std::string_view other_fields) {
  auto tokenizer = JsonTokenizer::from_text(small_json(model_fields, other_fields), "");
  EXPECT_TRUE(tokenizer.has_value()) << tokenizer.error().message;
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

}  // namespace pregate::model
