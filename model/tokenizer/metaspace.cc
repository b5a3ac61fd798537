#include "model/tokenizer/metaspace.h"

#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

Result<PrependScheme> read_scheme(const JsonField& field) {
  // Older files say add_prefix_space instead.
  PREGATE_ASSIGN(const bool add_prefix_space, field.bool_or("add_prefix_space", true));
  PREGATE_ASSIGN(const std::optional<JsonField> scheme_field, field.find("prepend_scheme"));
  if (!scheme_field) return add_prefix_space ? PrependScheme::kAlways : PrependScheme::kNever;
  PREGATE_ASSIGN(const std::string_view scheme, scheme_field->as_string());
  if (scheme == "never") return PrependScheme::kNever;
  if (scheme != "always" && scheme != "first") {
    return scheme_field->fail_here("expected always, first or never, found '{}'", scheme);
  }
  if (!add_prefix_space) {
    return scheme_field->fail_here("'{}' contradicts add_prefix_space false", scheme);
  }
  return scheme == "always" ? PrependScheme::kAlways : PrependScheme::kFirst;
}

}  // namespace

Result<MetaspaceOptions> read_metaspace(const JsonField& field) {
  MetaspaceOptions options;
  PREGATE_ASSIGN(const JsonField replacement_field, field.at("replacement"));
  PREGATE_ASSIGN(options.replacement, replacement_field.as_string());
  const std::string& replacement = options.replacement;
  if (replacement.empty() || code_point_at(replacement, 0).length_bytes != replacement.size()) {
    return replacement_field.fail_here("expected one character");
  }
  PREGATE_ASSIGN(options.scheme, read_scheme(field));
  PREGATE_ASSIGN(options.splits, field.bool_or("split", true));
  return options;
}

}  // namespace pregate::model
