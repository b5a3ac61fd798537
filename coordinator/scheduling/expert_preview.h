// Asks the router which experts tokens will go to, before a step with them is planned.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "coordinator/scheduling/batch_planner.h"
#include "router/router.h"

namespace pregate::coordinator {

/// For routers with Horizon::kAllLayers. Sets Sequence::experts: of a prompt once, from a pass of
/// its own over blocks that no sequence has, whatever the prefix cache holds of it; of a sampled
/// token when all before it have been computed. Used by the scheduler's thread, between steps.
class ExpertPreview {
 public:
  struct Blocks {
    size_t num_kv = 0;      ///< Of the KV cache: the router's own are numbered from there.
    size_t num_prompt = 0;  ///< That the longest prompt needs; the router has more than these.
  };
  /// The router must outlive it.
  ExpertPreview(router::Router& router, Blocks blocks);

  /// A sequence whose tokens the router could not read; it must not be taken out at once.
  using OnError = std::function<void(Sequence&, const Error&)>;
  /// Looks at what was sampled, and at prompts one after the other, `max_prompt_tokens` at most.
  void look(BatchPlanner& planner, size_t max_prompt_tokens, const OnError& on_error);

 private:
  /// Rows to ask about, as the router wants them.
  struct Rows {
    std::vector<TokenId> tokens;
    std::vector<uint32_t> positions, lengths;
    std::vector<compute::SequenceRows> sequences;
    void add(std::span<const TokenId> all, size_t first, size_t count,
             std::span<const uint32_t> blocks);
  };

  void look_at_sampled(std::span<Sequence* const> sequences, const OnError& on_error);
  size_t look_at_prompt(Sequence& sequence, size_t max_tokens, const OnError& on_error);
  Status ask(const Rows& rows);

  router::Router& router_;
  std::vector<uint32_t> prompt_blocks_, next_blocks_;  // the router's own
  std::optional<RequestId> in_prompt_blocks_;
  std::vector<ExpertId> experts_;  // the last answer
};

}  // namespace pregate::coordinator
