// Cuts the text into words before BPE: the "pre_tokenizer" of tokenizer.json.
#pragma once

#include <memory>

#include "model/tokenizer/json_field.h"
#include "model/tokenizer/pieces.h"

namespace pregate::model {

/// Immutable; thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Leaves pieces that are tokens alone, and no other piece empty.
  virtual void apply(Pieces& input) const = 0;
};

/// Types: ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation, Sequence.
Result<std::unique_ptr<PreTokenizer>> make_pre_tokenizer(const JsonField& field);

}  // namespace pregate::model
