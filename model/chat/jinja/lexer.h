// Template text to tokens, with jinja2's rules of white space (trim_blocks and lstrip_blocks on).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/chat/jinja/value.h"

namespace pregate::model::jinja {

enum class TokenKind {
  kData,  ///< Text outside of tags.
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kNumber,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;  ///< Data, name, operator, or the string unescaped.
  Value number = {};

  bool is_name(std::string_view name) const { return kind == TokenKind::kName && text == name; }
  bool is_operator(std::string_view sign) const {
    return kind == TokenKind::kOperator && text == sign;
  }
};

/// Ends with a kEnd token. Raises with the line of what is not a template.
std::vector<Token> tokenize(std::string_view source);
/// For messages: "'endif'", "end of print statement", ...
std::string describe(const Token& token);

}  // namespace pregate::model::jinja
