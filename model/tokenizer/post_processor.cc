#include "model/tokenizer/post_processor.h"

#include <optional>
#include <string_view>
#include <utility>

#include "model/tokenizer/bpe.h"

namespace pregate::model {
namespace {

Result<std::vector<TokenId>> read_special_ids(const JsonField& specials, const JsonField& name) {
  PREGATE_ASSIGN(const std::string_view key, name.as_string());
  PREGATE_ASSIGN(const std::optional<JsonField> special, specials.find(key));
  if (!special) return name.fail_here("'{}' is not in {}", key, specials.path());
  PREGATE_ASSIGN(const JsonField id_list, special->at("ids"));
  PREGATE_ASSIGN(const std::vector<JsonField> id_fields, id_list.elements());
  std::vector<TokenId> ids;
  for (const JsonField& id_field : id_fields) {
    PREGATE_ASSIGN(const uint32_t id, id_field.as_number_below(kTokenIdLimit));
    ids.push_back(static_cast<TokenId>(id));
  }
  return ids;
}

/// `field` is ["[CLS]", 101].
Result<TokenId> read_token_and_id(const JsonField& field) {
  PREGATE_ASSIGN(const std::vector<JsonField> elements, field.elements());
  if (elements.size() != 2) return field.fail_here("expected a token and its id");
  PREGATE_ASSIGN(const uint32_t id, elements[1].as_number_below(kTokenIdLimit));
  return static_cast<TokenId>(id);
}

}  // namespace

Result<PostProcessor> PostProcessor::from_json(const JsonField& field) {
  PostProcessor processor;
  PREGATE_TRY(processor.add_from_json(field));
  return processor;
}

Status PostProcessor::add_from_json(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField type_field, field.at("type"));
  PREGATE_ASSIGN(const std::string_view type, type_field.as_string());
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return add_template(field);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return add_class_and_separator(field);
  }
  if (type != "Sequence") {
    return type_field.fail_here("post-processor type '{}' is not supported", type);
  }
  PREGATE_ASSIGN(const JsonField list, field.at("processors"));
  PREGATE_ASSIGN(const std::vector<JsonField> elements, list.elements());
  for (const JsonField& element : elements) PREGATE_TRY(add_from_json(element));
  return {};
}

Status PostProcessor::add_template(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField single, field.at("single"));
  PREGATE_ASSIGN(const std::vector<JsonField> pieces, single.elements());
  PREGATE_ASSIGN(const JsonField specials, field.at("special_tokens"));
  Template parts;
  bool has_text = false;
  for (const JsonField& piece : pieces) {
    PREGATE_ASSIGN(const std::optional<JsonField> sequence, piece.find("Sequence"));
    if (sequence) {
      PREGATE_ASSIGN(const JsonField id_field, sequence->at("id"));
      PREGATE_ASSIGN(const std::string_view id, id_field.as_string());
      if (id != "A") return id_field.fail_here("expected A in a template for one text");
      if (has_text) return id_field.fail_here("expected the text only once in the template");
      has_text = true;
      parts.push_back({.is_text = true, .ids = {}});
      continue;
    }
    PREGATE_ASSIGN(const JsonField special, piece.at("SpecialToken"));
    PREGATE_ASSIGN(const JsonField name, special.at("id"));
    PREGATE_ASSIGN(std::vector<TokenId> ids, read_special_ids(specials, name));
    parts.push_back({.is_text = false, .ids = std::move(ids)});
  }
  templates_.push_back(std::move(parts));
  return {};
}

Status PostProcessor::add_class_and_separator(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField class_field, field.at("cls"));
  PREGATE_ASSIGN(const TokenId class_id, read_token_and_id(class_field));
  PREGATE_ASSIGN(const JsonField separator_field, field.at("sep"));
  PREGATE_ASSIGN(const TokenId separator_id, read_token_and_id(separator_field));
  templates_.push_back({{false, {class_id}}, {true, {}}, {false, {separator_id}}});
  return {};
}

std::vector<TokenId> PostProcessor::apply(std::vector<TokenId> ids, bool add_special_tokens) const {
  for (const Template& parts : templates_) {
    std::vector<TokenId> out;
    out.reserve(ids.size() + parts.size());
    for (const Part& part : parts) {
      if (!part.is_text && !add_special_tokens) continue;
      const std::vector<TokenId>& source = part.is_text ? ids : part.ids;
      out.insert(out.end(), source.begin(), source.end());
    }
    ids = std::move(out);
  }
  return ids;
}

}  // namespace pregate::model
