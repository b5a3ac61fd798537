#include "model/tokenizer/pattern.h"

namespace pregate::model {

Result<Pattern> Pattern::from_json(const JsonField& field) {
  PREGATE_ASSIGN(const std::optional<JsonField> text_field, field.find("String"));
  if (text_field) {
    PREGATE_ASSIGN(const std::string_view text, text_field->as_string());
    if (!text.empty()) return literal(std::string(text));
  }
  // An empty literal matches between all characters, as the empty expression does.
  std::string_view source;
  if (!text_field) {
    PREGATE_ASSIGN(source, field.string_at("Regex"));
  }
  Result<Regex> compiled = Regex::compile(source);
  if (!compiled) return fail(in_context(std::move(compiled.error()), field.path()));
  return regex(std::move(*compiled));
}

void Pattern::find_all(std::string_view text, std::vector<ByteRange>& matches) const {
  if (regex_) return regex_->find_all(text, matches);
  matches.clear();
  for (size_t begin = text.find(literal_); begin != std::string_view::npos;) {
    const size_t end = begin + literal_.size();
    matches.push_back({begin, end});
    begin = text.find(literal_, end);
  }
}

std::string replace_matches(std::string_view text, const std::vector<ByteRange>& matches,
                            std::string_view content) {
  std::string out;
  out.reserve(text.size() + matches.size() * content.size());
  size_t copied_end = 0;
  for (const ByteRange match : matches) {
    out += text.substr(copied_end, match.begin - copied_end);
    out += content;
    copied_end = match.end;
  }
  out += text.substr(copied_end);
  return out;
}

}  // namespace pregate::model
