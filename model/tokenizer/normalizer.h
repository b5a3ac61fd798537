// Changes to the text before it is cut: the "normalizer" of tokenizer.json.
#pragma once

#include <memory>
#include <string>

#include "model/tokenizer/json_field.h"

namespace pregate::model {

struct NormalizedText {
  std::string text;  ///< Valid UTF-8.
  bool at_start;     ///< See Piece; false once the first character has been removed.
};

/// Immutable; thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalizedText& input) const = 0;
};

/// Types: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Nmt, ByteLevel,
/// Sequence.
Result<std::unique_ptr<Normalizer>> make_normalizer(const JsonField& field);

}  // namespace pregate::model
