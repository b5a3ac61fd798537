// Text to token ids and back, as the checkpoint's tokenizer.json says.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace pregate::model {

/// One decoding in progress. Not thread-safe.
class DecodeSession {
 public:
  virtual ~DecodeSession() = default;
  /// Appends the text that `id` has made certain.
  virtual void push(TokenId id, std::string& out) = 0;
  /// Appends what is still held back.
  virtual void finish(std::string& out) = 0;
};

/// Immutable after load(); thread-safe.
class Tokenizer {
 public:
  /// Reads DIR/tokenizer.json (and tokenizer_config.json where it changes encoding).
  static Result<std::unique_ptr<Tokenizer>> load(const std::filesystem::path& directory);
  virtual ~Tokenizer() = default;

  /// Ids equal to the `tokenizers` library. `add_special_tokens` applies the post-processor (for
  /// example a BOS). Invalid UTF-8 is replaced by U+FFFD.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special_tokens) const = 0;
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special_tokens) const = 0;
  /// The same, token by token; the tokenizer must outlive the session. See StreamDecoder.
  virtual std::unique_ptr<DecodeSession> start_decoding(bool skip_special_tokens) const = 0;

  /// One more than the largest id, added tokens included.
  virtual size_t vocab_size() const = 0;
  virtual std::optional<TokenId> token_to_id(std::string_view token) const = 0;
  /// As written in the vocabulary ("Ġthe"); empty for an id that is not in it.
  virtual std::string_view id_to_token(TokenId id) const = 0;
  virtual bool is_special(TokenId id) const = 0;
};

/// Decodes a growing sequence. Text comes out as soon as it is certain: never half a UTF-8
/// character, and the pieces joined equal decode() of all the ids.
class StreamDecoder {
 public:
  /// `context`: ids before the first push (the end of the prompt), so that the first piece has the
  /// spacing it has in the whole text.
  /// The tokenizer must outlive the decoder. The cost of a push does not grow with the sequence.
  StreamDecoder(const Tokenizer& tokenizer, std::span<const TokenId> context,
                bool skip_special_tokens);
  std::string push(TokenId id);
  /// What is still held back (invalid bytes become U+FFFD).
  std::string finish();

 private:
  std::unique_ptr<DecodeSession> session_;
};

}  // namespace pregate::model
