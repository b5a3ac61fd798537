// From tokens back to text: the "decoder" of tokenizer.json.
//
// Each step is a small machine that takes tokens piece by piece and passes on what is certain, so
// that one implementation decodes a whole answer at once and a growing one token by token.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer/json_field.h"

namespace pregate::model {

/// Takes tokens, each as one or more fragments of valid UTF-8. Not thread-safe.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void on_text(std::string_view fragment) = 0;
  virtual void on_token_end() = 0;
  /// After the last token; passes on whatever is held back.
  virtual void on_finish() = 0;

  void set_next(DecodeStep* next) { next_ = next; }

 protected:
  DecodeStep& next() { return *next_; }
  void emit_token(std::string_view token) {
    next_->on_text(token);
    next_->on_token_end();
  }

 private:
  DecodeStep* next_ = nullptr;
};

using DecodeStepFactory = std::function<std::unique_ptr<DecodeStep>()>;

/// One decoding in progress. Not thread-safe.
class DecodeChain {
 public:
  explicit DecodeChain(const std::vector<DecodeStepFactory>& factories);
  DecodeChain(DecodeChain&&) noexcept;
  ~DecodeChain();

  /// Appends the text that has become certain to `out`.
  void push(std::string_view token, std::string& out);
  void finish(std::string& out);

 private:
  class Sink;
  DecodeStep& first();

  std::vector<std::unique_ptr<DecodeStep>> steps_;
  std::unique_ptr<Sink> sink_;
};

/// Immutable; thread-safe.
class Decoder {
 public:
  /// Without a decoder: tokens with a space between them.
  Decoder();
  /// Types: ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, BPEDecoder, WordPiece,
  /// Sequence.
  static Result<Decoder> from_json(const JsonField& field);

  DecodeChain start() const { return DecodeChain(factories_); }

 private:
  explicit Decoder(std::vector<DecodeStepFactory> factories) : factories_(std::move(factories)) {}

  std::vector<DecodeStepFactory> factories_;
};

}  // namespace pregate::model
