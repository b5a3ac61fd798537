#include "cli/text_windows.h"

#include <algorithm>
#include <numeric>

#include "base/mapped_file.h"

namespace pregate::cli {
namespace {

constexpr uint64_t kKvCacheBytes = uint64_t{2} << 30;  // at most; one window is seldom so much
constexpr char kDocumentEnd = '\f';

std::vector<std::string_view> split_documents(std::string_view text) {
  std::vector<std::string_view> documents;
  while (!text.empty()) {
    const size_t end = std::min(text.find(kDocumentEnd), text.size());
    if (end > 0) documents.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return documents;
}

}  // namespace

void add_text_flags(Flags& flags, TextOptions& options) {
  flags.group("Text");
  flags.positionals("FILE", options.files, "Texts; a form feed ends a document");
  flags.count("--window-tokens", options.window_tokens, {.min = 1, .max = size_t{1} << 20},
              "Documents are cut into pieces of so many tokens");
  flags.count("--max-tokens", options.max_tokens, {}, "Read so many tokens of each text; 0: all");
}

TokenId start_token(const model::ModelConfig& config) {
  if (config.bos_token >= 0) return config.bos_token;
  return config.eos_tokens.empty() ? 0 : config.eos_tokens.front();
}

Result<Text> read_text(const std::filesystem::path& path, const model::Tokenizer& tokenizer,
                       TokenId start, const TextOptions& options) {
  PREGATE_ASSIGN(const std::string content, read_file(path));
  Text text{.name = path.stem().string()};
  for (const std::string_view document : split_documents(content)) {
    if (options.max_tokens > 0 && text.num_tokens >= options.max_tokens) break;
    const std::vector<TokenId> tokens = tokenizer.encode(document, /*add_special_tokens=*/false);
    for (size_t begin = 0; begin < tokens.size(); begin += options.window_tokens) {
      const size_t end = std::min(begin + options.window_tokens, tokens.size());
      std::vector<TokenId> window{start};
      window.insert(window.end(), tokens.begin() + begin, tokens.begin() + end);
      text.windows.push_back(std::move(window));
    }
    ++text.num_documents;
    text.num_bytes += document.size();
    text.num_tokens += tokens.size();
  }
  if (!text.windows.empty()) return text;
  return fail(ErrorCode::kInvalidArgument, "{}: no text in it", path.string());
}

Result<Text> TextModel::read(const std::filesystem::path& path, const TextOptions& options) const {
  return read_text(path, *tokenizer, start_token(runtime->config()), options);
}

Result<TextModel> load_text_model(const ExpertsOptions& model, const TextOptions& text,
                                  const ExpertsHooks& experts, const PhaseProgress& progress) {
  return load_text_model(model, text, {}, experts, progress);
}

Result<TextModel> load_text_model(const ExpertsOptions& model, const TextOptions& text,
                                  const TextRuntime& more, const ExpertsHooks& experts,
                                  const PhaseProgress& progress) {
  TextModel loaded;
  PREGATE_ASSIGN(loaded.tokenizer, model::Tokenizer::load(model.model.model));
  PREGATE_ASSIGN(loaded.runtime,
                 ModelRuntime::load({.model = model.model.model,
                                     .weights = model.model.weights,
                                     .kv_dtype = model.model.weights == compute::WeightFormat::kF32
                                                     ? compute::DType::kF32
                                                     : compute::DType::kBf16,
                                     .backend = model.model.backend,
                                     .num_threads = thread_count(model.model.num_threads),
                                     .kv_cache_bytes = kKvCacheBytes,
                                     .max_model_len = text.window_tokens,
                                     .max_num_seqs = more.num_sequences,
                                     .make_lookahead = more.make_lookahead},
                                    experts.connect, progress));
  if (text.window_tokens > loaded.runtime->config().max_position) {
    return fail(ErrorCode::kInvalidArgument, "--window-tokens {}: the model's context has {}",
                text.window_tokens, loaded.runtime->config().max_position);
  }
  return loaded;
}

Progress::Output text_progress(const std::string& verb) {
  Progress::Output output = Progress::standard_error(verb);
  output.describe_total = [](size_t num_tokens) { return fmt::format("{} tokens", num_tokens); };
  return output;
}

Status compute_window(engine::Engine& engine, const std::vector<TokenId>& window,
                      engine::LogitRows logits, const engine::RowVisitor& visit) {
  const auto tokens = std::span(window).first(window.size() - 1);
  constexpr size_t kBlock = compute::kKvBlockTokens;
  std::vector<uint32_t> blocks((tokens.size() + kBlock - 1) / kBlock);
  std::iota(blocks.begin(), blocks.end(), 0u);
  const engine::StepSequence sequence{
      .tokens = tokens, .length_tokens = tokens.size(), .blocks = blocks, .logits = logits};
  return engine.step_all({&sequence, 1}, visit);
}

Status for_each_window(const Text& text, Progress& progress,
                       const std::function<Status(const std::vector<TokenId>& window)>& compute) {
  size_t num_done = 0;
  for (const auto& window : text.windows) {
    PREGATE_TRY(compute(window));
    num_done += window.size() - 1;
    progress.update(text.name, num_done, text.num_tokens);
  }
  return {};
}

}  // namespace pregate::cli
