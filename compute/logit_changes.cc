#include "compute/logit_changes.h"

namespace pregate::compute {

void change_logits(std::span<float> logits, const LogitChanges& changes) {
  for (const auto& [token, bias] : changes.biases) {
    if (token < logits.size()) logits[token] += bias;
  }
  for (const auto& [token, num_generated] : changes.said) {
    if (token >= logits.size()) continue;
    logits[token] = penalize(logits[token], num_generated, changes.penalties);
  }
  for (const uint32_t token : changes.forbidden) {
    if (token < logits.size()) logits[token] = kForbidden;
  }
}

}  // namespace pregate::compute
