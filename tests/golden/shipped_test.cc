// models/pregate-tiny: the engine predicts held-out text as well as transformers does, and
// bench/traces holds the routing of the model that ships. make_shipped.py writes the reference.

#include <fstream>
#include <numbers>
#include <numeric>

#include <gtest/gtest.h>

#include "cli/model_runtime.h"
#include "engine/sampling/sampler.h"
#include "router/trace.h"

namespace pregate {
namespace {

using router::RoutingTrace;

struct Reference {
  std::string text;
  size_t num_tokens = 0;
  double bits = 0.0;  ///< -log2 p of tokens 1 to num_tokens - 1 of the trace's first window
};

std::filesystem::path in_source(const std::string& path) {
  return std::filesystem::path(PREGATE_SOURCE_DIR) / path;
}

std::vector<Reference> load_references() {
  std::ifstream file(in_source("tests/golden/data/pregate-tiny.txt"));
  std::vector<Reference> references;
  for (Reference next; file >> next.text >> next.num_tokens >> next.bits;) {
    references.push_back(next);
  }
  return references;
}

class ShippedTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto quiet = [](const std::string&, size_t, size_t) {};
    const auto format = compute::WeightFormat::kF32;
    auto runtime = cli::ModelRuntime::load({.model = in_source("models/pregate-tiny"),
                                            .weights = format,
                                            .kv_dtype = compute::DType::kF32,
                                            .num_threads = 2,
                                            .kv_cache_bytes = 64 << 20},
                                           cli::ModelRuntime::local_experts(format, quiet), quiet);
    ASSERT_TRUE(runtime.has_value()) << runtime.error().message;
    runtime_ = std::move(*runtime);
  }

  /// Of tokens[1..]; what the router chose goes to `recorder`.
  double bits(std::span<const TokenId> tokens, router::TraceRecorder& recorder) {
    std::vector<uint32_t> blocks(tokens.size() / compute::kKvBlockTokens + 1);
    std::iota(blocks.begin(), blocks.end(), 0u);
    const engine::StepSequence step{.tokens = tokens,
                                    .length_tokens = tokens.size(),
                                    .blocks = blocks,
                                    .logits = engine::LogitRows::kAll};
    recorder.begin_window(tokens);
    engine::Engine& engine = runtime_->engine();
    engine.set_routing_observer([&](LayerIdx layer, const router::Decisions& decisions) {
      recorder.record(layer, decisions);
    });
    double sum = 0.0;
    const Status status =
        engine.step_all({&step, 1}, [&](size_t, size_t row, std::span<const float> logits) {
          if (row + 1 == tokens.size()) return;
          sum -= engine::log_probability(logits, tokens[row + 1]) / std::numbers::ln2;
        });
    EXPECT_TRUE(status) << status.error().message;
    return sum;
  }

  std::unique_ptr<cli::ModelRuntime> runtime_;
};

TEST_F(ShippedTest, PredictsAsTransformersDoesAndRoutesAsItsTracesSay) {
  const auto references = load_references();
  ASSERT_GE(references.size(), 7u);
  for (const Reference& reference : references) {
    SCOPED_TRACE(reference.text);
    const auto trace =
        router::read_trace(in_source("bench/traces/" + reference.text + ".safetensors"));
    ASSERT_TRUE(trace) << trace.error().message;
    ASSERT_GE(trace->num_tokens(), reference.num_tokens);
    router::TraceRecorder recorder(trace->layers, trace->num_experts, trace->top_k);
    const double measured = bits(std::span(trace->tokens).first(reference.num_tokens), recorder);
    EXPECT_NEAR(measured / reference.bits, 1.0, 1e-4);
    const std::vector<uint16_t>& now = recorder.trace().experts;
    size_t num_equal = 0;
    for (size_t i = 0; i < now.size(); ++i) num_equal += now[i] == trace->experts[i] ? 1 : 0;
    // Kernels of another processor may turn a near tie.
    EXPECT_GE(num_equal, now.size() * 99 / 100);
  }
}

}  // namespace
}  // namespace pregate
