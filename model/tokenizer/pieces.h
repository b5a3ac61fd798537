// A text on its way from characters to tokens: cut into pieces, some of them already tokens.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"

namespace pregate::model {

inline constexpr TokenId kNoToken = -1;

struct Piece {
  size_t begin;  ///< In Pieces::text.
  size_t end;
  bool at_start;             ///< Its first character comes from the first character of the input.
  TokenId token = kNoToken;  ///< Set for an added token: not to be cut or encoded any more.

  bool is_token() const { return token != kNoToken; }
};

struct Pieces {
  std::string text;
  std::vector<Piece> pieces;

  std::string_view text_of(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
  void append(std::string_view piece_text, bool at_start, TokenId token = kNoToken) {
    pieces.push_back({text.size(), text.size() + piece_text.size(), at_start, token});
    text += piece_text;
  }
};

}  // namespace pregate::model
