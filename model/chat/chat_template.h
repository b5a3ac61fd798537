// Chat messages to prompt text, by the checkpoint's Jinja template.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include <boost/json.hpp>

#include "base/result.h"

namespace pregate::model {

struct ChatOptions {
  bool add_generation_prompt = true;
  boost::json::array tools;       ///< Empty: none.
  boost::json::object variables;  ///< Further template variables ("chat_template_kwargs").
};

/// Immutable after load(); thread-safe.
class ChatTemplate {
 public:
  /// DIR/chat_template.jinja, else "chat_template" of DIR/tokenizer_config.json (a string, or a
  /// list of {name, template} where "default" is taken), with bos_token, eos_token, ... from there.
  /// kNotFound if the model has none.
  static Result<std::unique_ptr<ChatTemplate>> load(const std::filesystem::path& directory);
  /// For tests: the template text and the special tokens as variables.
  static Result<std::unique_ptr<ChatTemplate>> parse(std::string source,
                                                     boost::json::object special_tokens);
  virtual ~ChatTemplate() = default;

  /// kInvalidArgument with the template's own words when it calls raise_exception, or with line and
  /// cause when it fails; kResourceExhausted when it runs too long or makes too much text.
  virtual Result<std::string> render(const boost::json::array& messages,
                                     const ChatOptions& options) const = 0;
};

}  // namespace pregate::model
