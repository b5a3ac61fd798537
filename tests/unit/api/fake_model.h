// A tokenizer of bytes and a chat template of one line per message: small enough to predict by eye.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat/chat_template.h"
#include "tests/support/plain_decoding.h"

namespace pregate::coordinator::testing {

/// Ids 0 to 255 are bytes, 256 is "<s>" (added in front when asked for), 257 is "</s>".
class FakeTokenizer : public model::Tokenizer {
 public:
  static constexpr TokenId kBos = 256;
  static constexpr TokenId kEos = 257;

  FakeTokenizer() {
    for (int byte = 0; byte < 256; ++byte) names_.emplace_back(1, static_cast<char>(byte));
    names_.emplace_back("<s>");
    names_.emplace_back("</s>");
  }

  std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const override {
    std::vector<TokenId> ids;
    if (add_special_tokens) ids.push_back(kBos);
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const override {
    std::string text;
    for (const TokenId id : ids) {
      if (!skip_special_tokens || !is_special(id)) text += id_to_token(id);
    }
    return text;
  }
  std::unique_ptr<model::DecodeSession> start_decoding(bool skip_special_tokens) const override {
    return std::make_unique<test_support::PlainDecoding>(*this, skip_special_tokens);
  }
  size_t vocab_size() const override { return names_.size(); }
  std::optional<TokenId> token_to_id(std::string_view token) const override {
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == token) return static_cast<TokenId>(i);
    }
    return std::nullopt;
  }
  std::string_view id_to_token(TokenId id) const override {
    return names_.at(static_cast<size_t>(id));
  }
  bool is_special(TokenId id) const override { return id >= kBos; }

 private:
  std::vector<std::string> names_;
};

/// "role: content" per message, then "tools=N" if there are any, then "assistant:".
class FakeChatTemplate : public model::ChatTemplate {
 public:
  Result<std::string> render(const boost::json::array& messages,
                             const model::ChatOptions& options) const override {
    std::string text;
    for (const auto& message : messages) {
      const std::string role(message.at("role").as_string());
      if (role == "refuse") return fail(ErrorCode::kInvalidArgument, "the template refuses");
      text += role + ": " + std::string(message.at("content").as_string()) + "\n";
    }
    if (!options.tools.empty()) text += "tools=" + std::to_string(options.tools.size()) + "\n";
    for (const auto& [name, value] : options.variables) {
      text += std::string(name) + "=" + boost::json::serialize(value) + "\n";
    }
    return options.add_generation_prompt ? text + "assistant:" : text;
  }
};

}  // namespace pregate::coordinator::testing
