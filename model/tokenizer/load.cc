#include <map>

#include <boost/json/parse.hpp>

#include "base/mapped_file.h"
#include "model/tokenizer/json_tokenizer.h"

namespace pregate::model {
namespace {

Result<boost::json::value> parse_json(std::string_view text) {
  boost::system::error_code error;
  boost::json::value document = boost::json::parse(text, error);
  if (error) return fail(ErrorCode::kInvalidArgument, "not valid JSON: {}", error.message());
  return document;
}

Result<Bpe> read_model(const JsonField& root) {
  PREGATE_ASSIGN(const JsonField model, root.at("model"));
  PREGATE_ASSIGN(const std::optional<JsonField> type_field, model.find("type"));
  if (type_field) {  // files of before version 0.10 of the library have none
    PREGATE_ASSIGN(const std::string_view type, type_field->as_string());
    if (type != "BPE") {
      return type_field->fail_here("model type '{}' is not supported, expected BPE", type);
    }
  }
  return Bpe::from_json(model);
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::load(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / "tokenizer.json";
  const std::filesystem::path config_path = directory / "tokenizer_config.json";
  PREGATE_ASSIGN(const std::string text, read_file(path));
  std::string config;
  std::error_code error;
  if (std::filesystem::exists(config_path, error)) {
    PREGATE_ASSIGN(config, read_file(config_path));
  }
  Result<std::unique_ptr<Tokenizer>> tokenizer = JsonTokenizer::from_text(text, config);
  if (!tokenizer) return fail(in_context(std::move(tokenizer.error()), directory.string()));
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> JsonTokenizer::from_text(std::string_view tokenizer_json,
                                                            std::string_view config_json) {
  Result<std::unique_ptr<JsonTokenizer>> tokenizer = read_tokenizer(tokenizer_json);
  if (!tokenizer) return fail(in_context(std::move(tokenizer.error()), "tokenizer.json"));
  if (!config_json.empty()) {
    Status status = (*tokenizer)->read_config(config_json);
    if (!status) return fail(in_context(std::move(status.error()), "tokenizer_config.json"));
  }
  (*tokenizer)->added_tokens_.build_tries();
  return std::move(*tokenizer);
}

Result<std::unique_ptr<JsonTokenizer>> JsonTokenizer::read_tokenizer(std::string_view text) {
  PREGATE_ASSIGN(const boost::json::value document, parse_json(text));
  const JsonField root(document, "");
  std::unique_ptr<Normalizer> normalizer;
  PREGATE_ASSIGN(const std::optional<JsonField> normalizer_field, root.find("normalizer"));
  if (normalizer_field) {
    PREGATE_ASSIGN(normalizer, make_normalizer(*normalizer_field));
  }
  PREGATE_ASSIGN(Bpe bpe, read_model(root));
  std::unique_ptr<JsonTokenizer> tokenizer(
      new JsonTokenizer(std::move(bpe), std::move(normalizer)));
  PREGATE_ASSIGN(const std::optional<JsonField> pre_tokenizer, root.find("pre_tokenizer"));
  if (pre_tokenizer) {
    PREGATE_ASSIGN(tokenizer->pre_tokenizer_, make_pre_tokenizer(*pre_tokenizer));
  }
  PREGATE_ASSIGN(const std::optional<JsonField> post_processor, root.find("post_processor"));
  if (post_processor) {
    PREGATE_ASSIGN(tokenizer->post_processor_, PostProcessor::from_json(*post_processor));
  }
  PREGATE_ASSIGN(const std::optional<JsonField> decoder, root.find("decoder"));
  if (decoder) {
    PREGATE_ASSIGN(tokenizer->decoder_, Decoder::from_json(*decoder));
  }
  PREGATE_TRY(tokenizer->read_added_tokens(root));
  return tokenizer;
}

Status JsonTokenizer::read_added_tokens(const JsonField& root) {
  PREGATE_ASSIGN(const std::optional<JsonField> list, root.find("added_tokens"));
  if (!list) return {};
  PREGATE_ASSIGN(const std::vector<JsonField> elements, list->elements());
  for (const JsonField& element : elements) {
    PREGATE_ASSIGN(AddedToken token, read_added_token(element));
    PREGATE_TRY(added_tokens_.add(std::move(token)));
  }
  return {};
}

Status JsonTokenizer::read_config(std::string_view config_json) {
  PREGATE_ASSIGN(const boost::json::value document, parse_json(config_json));
  const JsonField root(document, "");
  PREGATE_ASSIGN(const std::optional<JsonField> tokens, root.find("added_tokens_decoder"));
  if (!tokens) return {};
  const boost::json::object* entries = tokens->value().if_object();
  if (entries == nullptr) return tokens->fail_here("expected an object");
  std::map<uint64_t, AddedToken> by_id;  // a new token's id follows from the order
  for (const auto& entry : *entries) {
    const std::string id(entry.key().data(), entry.key().size());
    const JsonField field(entry.value(), fmt::format("{}[\"{}\"]", tokens->path(), id));
    const bool is_number =
        !id.empty() && id.size() <= 10 && id.find_first_not_of("0123456789") == id.npos;
    if (!is_number) return field.fail_here("expected an id as the key");
    PREGATE_ASSIGN(by_id[std::stoull(id)], read_added_token(field));
  }
  for (auto& [id, token] : by_id) PREGATE_TRY(added_tokens_.add(std::move(token)));
  return {};
}

}  // namespace pregate::model
