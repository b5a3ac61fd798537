// Metaspace: spaces written as a visible character. A pre-tokenizer and its decoder share these.
#pragma once

#include <string>

#include "model/tokenizer/json_field.h"

namespace pregate::model {

enum class PrependScheme { kAlways, kFirst, kNever };

struct MetaspaceOptions {
  std::string replacement;  ///< One character, "▁" as a rule.
  PrependScheme scheme = PrependScheme::kAlways;
  bool splits = true;
};

Result<MetaspaceOptions> read_metaspace(const JsonField& field);

}  // namespace pregate::model
