#include "model/tokenizer/decode_steps.h"

#include <array>
#include <optional>
#include <utility>

#include "model/tokenizer/byte_level.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

std::string replace_text(std::string text, std::string_view from, std::string_view to) {
  for (size_t pos = text.find(from); pos != std::string::npos; pos = text.find(from, pos)) {
    text.replace(pos, from.size(), to);
    pos += to.size();
  }
  return text;
}

/// A step that needs whole tokens.
class WholeTokenStep : public DecodeStep {
 public:
  void on_text(std::string_view fragment) final { token_ += fragment; }
  void on_token_end() final {
    on_token(token_);
    token_.clear();
  }
  void on_finish() override { next().on_finish(); }

 protected:
  virtual void on_token(const std::string& token) = 0;

 private:
  std::string token_;
};

class ByteLevelStep : public WholeTokenStep {
 public:
  void on_finish() override {
    std::string text;
    repair_.finish(text);
    emit_token(text);
    next().on_finish();
  }

 protected:
  void on_token(const std::string& token) override {
    std::string text;
    repair_.push(bytes_of(token), text);
    if (!text.empty()) next().on_text(text);
  }

 private:
  /// A token with a character outside the alphabet stands for itself.
  static std::string bytes_of(const std::string& token) {
    std::string bytes;
    for (size_t pos = 0; pos < token.size();) {
      const CodePoint c = code_point_at(token, pos);
      const std::optional<uint8_t> byte = byte_of_character(c.value);
      if (!byte) return token;
      bytes.push_back(static_cast<char>(*byte));
      pos += c.length_bytes;
    }
    return bytes;
  }

  Utf8Repair repair_;
};

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class ByteFallbackStep : public WholeTokenStep {
 public:
  void on_finish() override {
    end_run();
    next().on_finish();
  }

 protected:
  void on_token(const std::string& token) override {
    if (const std::optional<char> byte = byte_of(token)) {
      run_.push_back(*byte);
      return;
    }
    end_run();
    emit_token(token);
  }

 private:
  static std::optional<char> byte_of(const std::string& token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    // The reference's number parser takes a sign, too.
    const int high = token[3] == '+' ? 0 : hex_value(token[3]);
    const int low = hex_value(token[4]);
    if (high < 0 || low < 0) return std::nullopt;
    return static_cast<char>(16 * high + low);
  }

  void end_run() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      emit_token(run_);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) emit_token(kReplacementCharacter);
    }
    run_.clear();
  }

  std::string run_;
};

class FuseStep : public DecodeStep {
 public:
  void on_text(std::string_view fragment) override { next().on_text(fragment); }
  void on_token_end() override {}
  void on_finish() override {
    next().on_token_end();
    next().on_finish();
  }
};

class StripStep : public DecodeStep {
 public:
  explicit StripStep(StripOptions options) : options_(std::move(options)) {}

  void on_text(std::string_view fragment) override {
    std::string out;
    for (size_t pos = 0; pos < fragment.size();) {
      const size_t length_bytes = code_point_at(fragment, pos).length_bytes;
      take(fragment.substr(pos, length_bytes), out);
      pos += length_bytes;
    }
    if (!out.empty()) next().on_text(out);
  }
  void on_token_end() override {
    num_stripped_ = 0;
    at_start_ = true;
    num_held_ = 0;
    next().on_token_end();
  }
  void on_finish() override { next().on_finish(); }

 private:
  void take(std::string_view character, std::string& out) {
    const bool is_content = character == options_.content;
    if (at_start_ && is_content && num_stripped_ < options_.num_at_start) {
      ++num_stripped_;
      return;
    }
    at_start_ = false;
    if (is_content && num_held_ < options_.num_at_end) {
      ++num_held_;  // it may be one of the last
      return;
    }
    if (!is_content) {
      for (; num_held_ > 0; --num_held_) out += options_.content;
    }
    out += character;
  }

  const StripOptions options_;
  bool at_start_ = true;
  size_t num_stripped_ = 0;
  size_t num_held_ = 0;
};

class MetaspaceStep : public DecodeStep {
 public:
  explicit MetaspaceStep(const MetaspaceOptions& options)
      : replacement_(options.replacement),
        first_space_(options.scheme == PrependScheme::kNever ? " " : "") {}

  void on_text(std::string_view fragment) override {
    next().on_text(
        replace_text(std::string(fragment), replacement_, is_first_ ? first_space_ : " "));
  }
  void on_token_end() override {
    is_first_ = false;
    next().on_token_end();
  }
  void on_finish() override { next().on_finish(); }

 private:
  const std::string replacement_;
  const std::string_view first_space_;  // what the character becomes in the first token
  bool is_first_ = true;
};

class ReplaceStep : public DecodeStep {
 public:
  ReplaceStep(std::shared_ptr<const Pattern> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void on_text(std::string_view fragment) override {
    pending_ += fragment;
    if (const std::string* literal = pattern_->literal_text()) pass_on_certain(*literal);
  }
  void on_token_end() override {
    std::vector<ByteRange> matches;
    pattern_->find_all(pending_, matches);
    const std::string text = replace_matches(pending_, matches, content_);
    pending_.clear();
    emit_token(text);
  }
  void on_finish() override { next().on_finish(); }

 private:
  /// All but an end of the text that could begin a match.
  void pass_on_certain(const std::string& literal) {
    std::vector<ByteRange> matches;
    pattern_->find_all(pending_, matches);
    const size_t matched_end = matches.empty() ? 0 : matches.back().end;
    size_t kept = std::min(literal.size() - 1, pending_.size() - matched_end);
    while (!pending_.ends_with(std::string_view(literal).substr(0, kept))) --kept;
    const size_t certain_end = pending_.size() - kept;
    const auto certain = std::string_view(pending_).substr(0, certain_end);
    next().on_text(replace_matches(certain, matches, content_));
    pending_.erase(0, certain_end);
  }

  const std::shared_ptr<const Pattern> pattern_;
  const std::string content_;
  std::string pending_;
};

class BpeStep : public WholeTokenStep {
 public:
  explicit BpeStep(std::string suffix) : suffix_(std::move(suffix)) {}
  void on_finish() override {
    end_pending("");
    next().on_finish();
  }

 protected:
  void on_token(const std::string& token) override {
    end_pending(" ");
    if (token.find(suffix_) == std::string::npos) {
      emit_token(token);
    } else {
      pending_ = token;
    }
  }

 private:
  void end_pending(std::string_view space) {
    if (pending_.empty()) return;
    emit_token(replace_text(std::move(pending_), suffix_, space));
    pending_.clear();
  }

  const std::string suffix_;
  std::string pending_;  // the latest token, if it has a suffix: is it the last?
};

class WordPieceStep : public WholeTokenStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

 protected:
  void on_token(const std::string& token) override {
    std::string text = token;
    if (!is_first_) text = token.starts_with(prefix_) ? token.substr(prefix_.size()) : " " + token;
    is_first_ = false;
    emit_token(cleanup_ ? cleaned(std::move(text)) : text);
  }

 private:
  static std::string cleaned(std::string text) {
    using Rule = std::pair<std::string_view, std::string_view>;
    constexpr std::array kRules = std::to_array<Rule>({{" .", "."},
                                                       {" ?", "?"},
                                                       {" !", "!"},
                                                       {" ,", ","},
                                                       {" ' ", "'"},
                                                       {" n't", "n't"},
                                                       {" 'm", "'m"},
                                                       {" do not", " don't"},
                                                       {" 's", "'s"},
                                                       {" 've", "'ve"},
                                                       {" 're", "'re"}});
    for (const auto& [from, to] : kRules) text = replace_text(std::move(text), from, to);
    return text;
  }

  const std::string prefix_;
  const bool cleanup_;
  bool is_first_ = true;
};

class JoinStep : public WholeTokenStep {
 protected:
  void on_token(const std::string& token) override {
    if (!is_first_) next().on_text(" ");
    is_first_ = false;
    emit_token(token);
  }

 private:
  bool is_first_ = true;
};

}  // namespace

std::unique_ptr<DecodeStep> make_byte_level_step() { return std::make_unique<ByteLevelStep>(); }

std::unique_ptr<DecodeStep> make_byte_fallback_step() {
  return std::make_unique<ByteFallbackStep>();
}

std::unique_ptr<DecodeStep> make_fuse_step() { return std::make_unique<FuseStep>(); }

std::unique_ptr<DecodeStep> make_strip_step(const StripOptions& options) {
  return std::make_unique<StripStep>(options);
}

std::unique_ptr<DecodeStep> make_metaspace_step(const MetaspaceOptions& options) {
  return std::make_unique<MetaspaceStep>(options);
}

std::unique_ptr<DecodeStep> make_replace_step(std::shared_ptr<const Pattern> pattern,
                                              const std::string& content) {
  return std::make_unique<ReplaceStep>(std::move(pattern), content);
}

std::unique_ptr<DecodeStep> make_bpe_step(const std::string& suffix) {
  return std::make_unique<BpeStep>(suffix);
}

std::unique_ptr<DecodeStep> make_word_piece_step(const std::string& prefix, bool cleanup) {
  return std::make_unique<WordPieceStep>(prefix, cleanup);
}

std::unique_ptr<DecodeStep> make_join_step() { return std::make_unique<JoinStep>(); }

}  // namespace pregate::model
