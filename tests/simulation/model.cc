#include "tests/simulation/model.h"

#include <algorithm>

#include "base/check.h"

namespace pregate::simulation {
namespace {

constexpr compute::WeightFormat kFormat = compute::WeightFormat::kF32;
constexpr size_t kBlocksPerText = 6;  // of 16 tokens each
constexpr size_t kMaxTexts = 16;
constexpr TokenId kVocabulary = 300;

void ignore_progress(const std::string&, size_t, size_t) {}

template <typename T>
T must(Result<T> result) {
  if (!result) fmt::print(stderr, "{}\n", result.error().message);
  PREGATE_CHECK(result.has_value());
  return std::move(*result);
}

std::vector<uint32_t> blocks_of(size_t text) {
  std::vector<uint32_t> blocks(kBlocksPerText);
  for (size_t i = 0; i < blocks.size(); ++i) {
    blocks[i] = static_cast<uint32_t>(text * kBlocksPerText + i);
  }
  return blocks;
}

/// Whether it is to be computed now.
bool can_go_on(const engine::Engine& engine, Generation& text) {
  if (text.missing && engine.experts().has_homes(*text.missing)) text.missing.reset();
  return !text.missing;
}

TokenId best_of(std::span<const float> logits) {
  return static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin());
}

}  // namespace

Model::Model() {
  test_support::write_tiny_model(directory_.path(), "olmoe");
  backend_ = must(compute::make_backend("reference", threads_));
  checkpoint_ = must(model::Checkpoint::open(directory_.path()));
  expert_bytes_ = must(load(shape().layers.front(), ExpertId(0)))->bytes();
}

Result<std::unique_ptr<compute::PackedExpert>> Model::load(LayerIdx layer, ExpertId expert) {
  return model::load_expert(*checkpoint_, layer, expert, *backend_, kFormat);
}

std::unique_ptr<cli::ModelRuntime> Model::runtime(
    const cli::ModelRuntime::ConnectExperts& connect) {
  const cli::RuntimeOptions options{.model = directory_.path(),
                                    .weights = kFormat,
                                    .kv_dtype = compute::DType::kF32,
                                    .backend = "reference",
                                    .kv_cache_bytes = size_t{64} << 20,
                                    .max_model_len = kBlocksPerText * compute::kKvBlockTokens,
                                    .max_num_seqs = kMaxTexts};
  return must(cli::ModelRuntime::load(options, connect, ignore_progress));
}

const Answer& Model::expected(uint64_t prompt_seed, size_t num_tokens) {
  const auto known = expected_.find({prompt_seed, num_tokens});
  if (known != expected_.end()) return known->second;
  if (!alone_) alone_ = runtime(cli::ModelRuntime::local_experts(kFormat, ignore_progress));
  Answer answer;
  std::set<ExpertKey> needed;
  alone_->engine().set_routing_observer([&](LayerIdx layer, const router::Decisions& decisions) {
    for (const ExpertId expert : decisions.expert_ids) needed.emplace(layer, expert);
  });
  std::vector<Generation> texts{{.prompt_seed = prompt_seed, .tokens = prompt_of(prompt_seed)}};
  const Status status = generate(alone_->engine(), texts, num_tokens,
                                 [&] { answer.steps.push_back(std::exchange(needed, {})); });
  PREGATE_CHECK(status.has_value());
  answer.tokens = texts.front().tokens;
  return expected_.emplace(std::pair(prompt_seed, num_tokens), std::move(answer)).first->second;
}

Text prompt_of(uint64_t prompt_seed) {
  Random random(prompt_seed);
  Text tokens(3 + random.next_below(24));
  for (TokenId& token : tokens) token = static_cast<TokenId>(random.next_below(kVocabulary));
  return tokens;
}

Status generate(engine::Engine& engine, std::vector<Generation>& texts, size_t num_tokens,
                const std::function<void()>& after_step) {
  PREGATE_CHECK(texts.size() <= kMaxTexts);
  std::vector<std::vector<uint32_t>> blocks;
  for (size_t i = 0; i < texts.size(); ++i) blocks.push_back(blocks_of(i));
  for (size_t step = 0;; ++step) {
    std::vector<engine::StepSequence> sequences;
    std::vector<Generation*> running;
    bool waiting = false;
    for (size_t i = 0; i < texts.size(); ++i) {
      Generation& text = texts[i];
      if (text.num_new == num_tokens || text.error) continue;
      if (text.begins_at_step > step || !can_go_on(engine, text)) {
        waiting = true;
        continue;
      }
      const size_t first = text.num_new == 0 ? 0 : text.tokens.size() - 1;
      sequences.push_back({.tokens = std::span(text.tokens).subspan(first),
                           .first_position = first,
                           .length_tokens = text.tokens.size(),
                           .blocks = blocks[i]});
      running.push_back(&text);
    }
    if (running.empty() && !waiting) return {};
    std::vector<TokenId> next(running.size());
    const auto take_best = [&](size_t index, size_t, std::span<const float> logits) {
      next[index] = best_of(logits);
    };
    PREGATE_ASSIGN(const auto set_aside, engine.step(sequences, engine::each_row(take_best)));
    for (const auto& [index, missing] : set_aside) {
      running[index]->missing = missing;
      running[index]->was_set_aside = true;
    }
    for (size_t i = 0; i < running.size(); ++i) {
      if (running[i]->missing) continue;
      running[i]->tokens.push_back(next[i]);
      ++running[i]->num_new;
    }
    after_step();
  }
}

}  // namespace pregate::simulation
