// A tokenizer for models that were never trained.
#pragma once

#include <filesystem>

#include "base/ids.h"
#include "base/result.h"

namespace pregate::model {

/// Ids of the tokenizer's special tokens, after the 256 bytes.
inline constexpr TokenId kEndOfText = 256, kTurnBegin = 257, kTurnEnd = 258;
inline constexpr size_t kSmallestVocab = 259;

/// Writes tokenizer.json (byte-level BPE) and tokenizer_config.json (with a chat template). Every
/// id below vocab_size is some text, so that what a random model says can be shown.
Status write_tokenizer(const std::filesystem::path& directory, size_t vocab_size);

/// Replaces a small text file; errors name the path.
Status write_text(const std::filesystem::path& path, const std::string& text);

}  // namespace pregate::model
