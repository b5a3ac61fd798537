// What the API needs of the model behind it.
#pragma once

#include <cstdint>

#include "coordinator/scheduling/generation.h"
#include "model/chat/chat_template.h"
#include "model/tokenizer/tokenizer.h"

namespace pregate::coordinator {

/// Everything referred to must outlive the server, and be thread-safe.
struct ServingModel {
  GenerationService& generation;
  const model::Tokenizer& tokenizer;
  const model::ChatTemplate* chat_template = nullptr;  ///< Null: chat is refused.
  uint32_t max_model_len = 0;                          ///< Tokens, prompt and answer together.
  size_t vocab_size = 0;
  /// For requests that leave a field out; the checkpoint's generation_config.json may say so.
  engine::SamplingParams default_sampling = {};
};

}  // namespace pregate::coordinator
