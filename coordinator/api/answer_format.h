// What the answers of completions and of chat look like.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "coordinator/api/api_request.h"
#include "coordinator/api/logprobs_json.h"
#include "coordinator/scheduling/generation.h"

namespace pregate::coordinator {

/// A prompt ready to be submitted, and what is learnt of it.
struct CallPrompt {
  std::vector<TokenId> ids;
  std::string text;                      ///< For echo; else empty.
  std::vector<GeneratedToken> logprobs;  ///< Once they have come.
};

/// What is new of one choice; in an answer that is not streamed, all of it.
struct ChoicePiece {
  uint32_t choice = 0;
  const GenerationChunk& chunk;
  const CallPrompt& prompt;
  size_t text_offset = 0;  ///< Characters of this choice shown before.
  bool first = true;       ///< Nothing of this choice was shown before.
};

/// The piece's text, with the prompt before it where the client asked for an echo.
std::string shown_text(const ChoicePiece& piece);

struct Usage {
  uint64_t prompt_tokens = 0;
  uint64_t completion_tokens = 0;
  uint64_t cached_tokens = 0;
};

struct AnswerHead {
  std::string id;  ///< Such as "cmpl-4f...".
  int64_t created = 0;
  std::string model;
};

/// Immutable. Refers to the tokenizer.
class AnswerFormat {
 public:
  AnswerFormat(AnswerHead head, const GenerationFields& fields, const model::Tokenizer& tokenizer);
  virtual ~AnswerFormat() = default;

  boost::json::object whole(boost::json::array choices, const CallPrompt& prompt,
                            const Usage& usage) const;
  /// One event of a stream; `usage` is shown only where the client asked for it in every event.
  boost::json::object event(const ChoicePiece& piece, const Usage& usage) const;
  /// The stream's last event, if the client asked for usage.
  boost::json::object usage_event(const Usage& usage) const;

  /// An entry of "choices".
  virtual boost::json::object whole_choice(const ChoicePiece& piece) const = 0;

 protected:
  virtual boost::json::object event_choice(const ChoicePiece& piece) const = 0;
  virtual std::string_view object_name(bool stream) const = 0;
  /// What belongs to the prompt and stands beside the choices.
  virtual void add_prompt(boost::json::object& answer, const CallPrompt& prompt, bool stream) const;

  boost::json::value prompt_logprobs_json(const CallPrompt& prompt) const;
  /// What ends an entry of "choices" in both APIs.
  void add_end(boost::json::object& choice, const ChoicePiece& piece, bool stream) const;

  const AnswerHead head_;
  const GenerationFields fields_;
  const TokenNames names_;

 private:
  boost::json::object envelope(boost::json::array choices, bool stream) const;
};

std::unique_ptr<AnswerFormat> completion_format(AnswerHead head, const GenerationFields& fields,
                                                const model::Tokenizer& tokenizer);
std::unique_ptr<AnswerFormat> chat_format(AnswerHead head, const GenerationFields& fields,
                                          const model::Tokenizer& tokenizer);

}  // namespace pregate::coordinator
