// The model that simulated clusters serve: real weights and arithmetic, but tiny.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "cli/model_runtime.h"
#include "coordinator/placement/placement.h"
#include "tests/support/tiny_model.h"

namespace pregate::simulation {

using Text = std::vector<TokenId>;
using ExpertKey = std::pair<LayerIdx, ExpertId>;

/// What a prompt is answered with by one process, undisturbed.
struct Answer {
  Text tokens;                             ///< After the prompt, which they include.
  std::vector<std::set<ExpertKey>> steps;  ///< The experts that each step needed.
};

/// Two layers of eight experts. Made once per process.
class Model {
 public:
  Model();

  const model::Checkpoint& checkpoint() const { return *checkpoint_; }
  coordinator::PlacementShape shape() const {
    return coordinator::placement_shape(checkpoint_->config());
  }
  compute::Backend& backend() { return *backend_; }
  Result<std::unique_ptr<compute::PackedExpert>> load(LayerIdx layer, ExpertId expert);
  /// All experts have the same size.
  size_t expert_bytes() const { return expert_bytes_; }

  /// An engine over experts wherever `connect` finds them.
  std::unique_ptr<cli::ModelRuntime> runtime(const cli::ModelRuntime::ConnectExperts& connect);
  /// Remembered.
  const Answer& expected(uint64_t prompt_seed, size_t num_tokens);

 private:
  const test_support::TemporaryDirectory directory_;
  ThreadPool threads_{1};
  std::unique_ptr<compute::Backend> backend_;
  std::shared_ptr<const model::Checkpoint> checkpoint_;
  size_t expert_bytes_ = 0;
  std::unique_ptr<cli::ModelRuntime> alone_;
  std::map<std::pair<uint64_t, size_t>, Answer> expected_;
};

/// A few random tokens; there are kNumPrompts.
inline constexpr uint64_t kNumPrompts = 24;
Text prompt_of(uint64_t prompt_seed);

/// One text while it is made: prefill in one step, then token by token, greedily.
struct Generation {
  uint64_t prompt_seed = 0;
  size_t begins_at_step = 0;
  Text tokens;         ///< Prompt and answer.
  size_t num_new = 0;  ///< Of `tokens`.

  std::optional<engine::MissingExperts> missing;  ///< It waits for these.
  bool was_set_aside = false;
  std::optional<Error> error;  ///< Set by whoever has no patience any more.
};

/// Computes steps until all have `num_tokens` new tokens or an error; what lacks experts waits
/// meanwhile. `after_step` is called after each step, and as often when all wait.
Status generate(engine::Engine& engine, std::vector<Generation>& texts, size_t num_tokens,
                const std::function<void()>& after_step);

}  // namespace pregate::simulation
