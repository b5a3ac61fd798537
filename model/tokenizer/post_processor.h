// Special tokens around the text: the "post_processor" of tokenizer.json.
#pragma once

#include <vector>

#include "base/ids.h"
#include "model/tokenizer/json_field.h"

namespace pregate::model {

/// Templates for a single text (pairs of texts are never encoded here). Immutable; thread-safe.
class PostProcessor {
 public:
  /// Types: TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel (which changes only
  /// offsets), Sequence.
  static Result<PostProcessor> from_json(const JsonField& field);

  std::vector<TokenId> apply(std::vector<TokenId> ids, bool add_special_tokens) const;

 private:
  /// The text's own ids, or ids to insert.
  struct Part {
    bool is_text;
    std::vector<TokenId> ids;
  };
  using Template = std::vector<Part>;

  Status add_from_json(const JsonField& field);
  Status add_template(const JsonField& field);
  Status add_class_and_separator(const JsonField& field);

  std::vector<Template> templates_;  // applied one after the other
};

}  // namespace pregate::model
