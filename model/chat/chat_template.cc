#include "model/chat/chat_template.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/mapped_file.h"
#include "model/chat/jinja/evaluator.h"
#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/parser.h"
#include "model/chat/jinja/text.h"

namespace pregate::model {
namespace {

constexpr size_t kMaxConfigBytes = 64 << 20;
constexpr std::string_view kDefaultName = "default";
constexpr std::string_view kToolUseName = "tool_use";

Result<jinja::Body> parse_source(std::string_view source) {
  if (source.size() > jinja::kMaxSourceBytes) {
    return fail(ErrorCode::kInvalidArgument, "chat template is larger than {} bytes",
                jinja::kMaxSourceBytes);
  }
  if (!jinja::is_utf8(source)) return fail(ErrorCode::kDataLoss, "chat template is not UTF-8");
  try {
    return jinja::parse(source);
  } catch (const jinja::Failure& failure) {
    return fail(failure.code(), "chat template, line {}: {}", failure.line(), failure.what());
  }
}

class JinjaTemplate : public ChatTemplate {
 public:
  JinjaTemplate(jinja::Body body, boost::json::object special_tokens)
      : body_(std::move(body)), special_tokens_(std::move(special_tokens)) {}

  void set_tool_use(jinja::Body body) { tool_use_ = std::move(body); }

  Result<std::string> render(const boost::json::array& messages,
                             const ChatOptions& options) const override {
    jinja::Evaluator evaluator;
    try {
      set_variables(evaluator, messages, options);
      return evaluator.run(tool_use_ && !options.tools.empty() ? *tool_use_ : body_);
    } catch (const jinja::RaisedByTemplate& failure) {
      return fail(failure.code(), "{}", failure.what());
    } catch (const jinja::Failure& failure) {
      const int line = failure.line() > 0 ? failure.line() : evaluator.line();
      return fail(failure.code(), "chat template, line {}: {}", line, failure.what());
    } catch (const std::bad_alloc&) {
      return fail(ErrorCode::kResourceExhausted, "chat template, line {}: out of memory",
                  evaluator.line());
    }
  }

 private:
  void set_variables(jinja::Evaluator& evaluator, const boost::json::array& messages,
                     const ChatOptions& options) const {
    using jinja::Value;
    for (const auto& [name, value] : special_tokens_) {
      evaluator.set_variable(name, Value::from_json(value));
    }
    evaluator.set_variable("documents", Value());
    for (const auto& [name, value] : options.variables) {
      evaluator.set_variable(name, Value::from_json(value));
    }
    evaluator.set_variable("messages", Value::from_json(messages));
    evaluator.set_variable("tools",
                           options.tools.empty() ? Value() : Value::from_json(options.tools));
    evaluator.set_variable("add_generation_prompt", options.add_generation_prompt);
  }

  jinja::Body body_;
  std::optional<jinja::Body> tool_use_;
  boost::json::object special_tokens_;
};

/// Template texts by what they are for.
struct Sources {
  std::string main;
  std::optional<std::string> tool_use;
};

Result<boost::json::object> read_config(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return boost::json::object();
  PREGATE_ASSIGN(const std::string text, read_file(path, kMaxConfigBytes));
  boost::system::error_code error;
  boost::json::value json = boost::json::parse(text, error);
  if (error) return fail(ErrorCode::kDataLoss, "not valid JSON: {}", error.message());
  if (!json.is_object()) return fail(ErrorCode::kDataLoss, "expected a JSON object");
  return std::move(json.get_object());
}

Result<Sources> sources_of_list(const boost::json::array& list) {
  std::optional<std::string> main;
  Sources sources;
  for (const auto& item : list) {
    const auto* entry = item.if_object();
    const auto* name = entry != nullptr ? entry->if_contains("name") : nullptr;
    const auto* text = entry != nullptr ? entry->if_contains("template") : nullptr;
    if (name == nullptr || !name->is_string() || text == nullptr || !text->is_string()) {
      return fail(ErrorCode::kDataLoss, "chat_template: expected a list of {{name, template}}");
    }
    if (name->get_string() == kDefaultName) main = std::string(text->get_string());
    if (name->get_string() == kToolUseName) sources.tool_use = std::string(text->get_string());
  }
  if (!main) return fail(ErrorCode::kDataLoss, "chat_template: no template named 'default'");
  sources.main = *std::move(main);
  return sources;
}

Result<Sources> sources_of_config(const boost::json::object& config) {
  const auto* value = config.if_contains("chat_template");
  if (value == nullptr || value->is_null()) {
    return fail(ErrorCode::kNotFound,
                "the model has no chat template (neither "
                "chat_template.jinja nor chat_template in this file)");
  }
  if (value->is_string()) return Sources{std::string(value->get_string()), std::nullopt};
  if (value->is_array()) return sources_of_list(value->get_array());
  return fail(ErrorCode::kDataLoss, "chat_template: expected a string or a list");
}

/// bos_token, eos_token and the like: strings, or objects with the string as "content".
boost::json::object special_tokens_of(const boost::json::object& config) {
  boost::json::object tokens;
  for (const auto& [key, value] : config) {
    if (!key.ends_with("_token")) continue;
    const auto* token = &value;
    if (const auto* object = value.if_object()) token = object->if_contains("content");
    if (token != nullptr && token->is_string()) tokens[key] = *token;
  }
  return tokens;
}

Result<std::unique_ptr<ChatTemplate>> make_template(const Sources& sources,
                                                    boost::json::object special_tokens) {
  PREGATE_ASSIGN(jinja::Body body, parse_source(sources.main));
  auto made = std::make_unique<JinjaTemplate>(std::move(body), std::move(special_tokens));
  if (sources.tool_use) {
    PREGATE_ASSIGN(jinja::Body tool_use, parse_source(*sources.tool_use));
    made->set_tool_use(std::move(tool_use));
  }
  return made;
}

}  // namespace

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::load(const std::filesystem::path& directory) {
  const std::filesystem::path config_path = directory / "tokenizer_config.json";
  const std::filesystem::path template_path = directory / "chat_template.jinja";
  const auto named = [](const std::filesystem::path& path) {
    return [&path](Error error) {
      const bool is_named = error.message.starts_with(path.string());
      return is_named ? error : in_context(std::move(error), path.string());
    };
  };
  PREGATE_ASSIGN(const boost::json::object config,
                 read_config(config_path).map_error(named(config_path)));
  const bool has_file = std::filesystem::exists(template_path);
  Sources sources;
  if (has_file) {
    PREGATE_ASSIGN(sources.main, read_file(template_path, jinja::kMaxSourceBytes));
  } else {
    PREGATE_ASSIGN(sources, sources_of_config(config).map_error(named(config_path)));
  }
  return make_template(sources, special_tokens_of(config))
      .map_error(named(has_file ? template_path : config_path));
}

Result<std::unique_ptr<ChatTemplate>> ChatTemplate::parse(std::string source,
                                                          boost::json::object special_tokens) {
  return make_template({std::move(source), std::nullopt}, std::move(special_tokens));
}

}  // namespace pregate::model
