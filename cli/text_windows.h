// Texts cut into windows that a model computes one by one: what `pregate eval` and `pregate trace`
// read.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "cli/progress.h"
#include "cli/run_with_experts.h"
#include "model/tokenizer/tokenizer.h"

namespace pregate::cli {

struct TextOptions {
  std::vector<std::filesystem::path> files;
  size_t window_tokens = 1024;
  size_t max_tokens = 0;  ///< Of a file; 0: all.
};

struct Text {
  std::string name;          ///< The file's, without its ending.
  size_t num_documents = 0;  ///< A form feed ends a document.
  size_t num_bytes = 0;      ///< Of what the windows hold, without form feeds.
  size_t num_tokens = 0;     ///< Without start tokens.
  /// Consecutive pieces of documents, with the start token before each, so that all of a piece's
  /// tokens are predicted.
  std::vector<std::vector<TokenId>> windows;
};

/// Adds FILE..., --window-tokens and --max-tokens.
void add_text_flags(Flags& flags, TextOptions& options);

/// What a model expects before a text: its beginning-of-text token, or the end of another text.
TokenId start_token(const model::ModelConfig& config);

/// Errors name the file.
Result<Text> read_text(const std::filesystem::path& path, const model::Tokenizer& tokenizer,
                       TokenId start, const TextOptions& options);

/// A model to compute texts with, one window at a time.
struct TextModel {
  std::unique_ptr<model::Tokenizer> tokenizer;
  std::unique_ptr<ModelRuntime> runtime;

  Result<Text> read(const std::filesystem::path& path, const TextOptions& options) const;
};

struct TextRuntime {
  size_t num_sequences = 1;  ///< Windows that the KV cache has room for.
  MakeLookahead make_lookahead = {};
};

/// The KV cache has room for one window.
Result<TextModel> load_text_model(const ExpertsOptions& model, const TextOptions& text,
                                  const ExpertsHooks& experts, const PhaseProgress& progress);
/// With what `more` says of sequences at once and of look-ahead.
Result<TextModel> load_text_model(const ExpertsOptions& model, const TextOptions& text,
                                  const TextRuntime& more, const ExpertsHooks& experts,
                                  const PhaseProgress& progress);

/// Counts tokens of texts, for people; `verb` says what is done with them.
Progress::Output text_progress(const std::string& verb);

/// Computes one window, but for its last token, from an empty context, using the engine's KV cache
/// from its first block.
Status compute_window(engine::Engine& engine, const std::vector<TokenId>& window,
                      engine::LogitRows logits, const engine::RowVisitor& visit);

/// compute(window) for one window after the other, until one fails; tells `progress`.
Status for_each_window(const Text& text, Progress& progress,
                       const std::function<Status(const std::vector<TokenId>& window)>& compute);

}  // namespace pregate::cli
