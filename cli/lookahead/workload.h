// Requests that come at random, with the experts that their tokens go to: the published shape of
// Read-ME's traces (Cai et al. 2024, section 5), where the texts themselves were not published.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace pregate::cli {

struct WorkloadOptions {
  uint64_t seed = 1;
  size_t num_requests = 2000;
  double requests_per_second = 1;  ///< Poisson arrivals: the paper says nothing of them.
  size_t num_experts = 7;          ///< And as many domains, each with a favourite.
  double stay = 2921.0 / 4096.0;   ///< That a token goes to the expert of the one before.
  double zipf = 1.0;               ///< Else to another: that of rank r in its domain by 1 / r^zipf.
  /// Means of geometric distributions.
  double mean_prompt_tokens = 70, mean_answer_tokens = 215;
  size_t max_tokens = 2000;  ///< Of prompt and of answer.
};

struct Arrival {
  double at_ms = 0;
  size_t num_prompt = 0, num_answer = 0;
  std::vector<ExpertId> experts;  ///< Of all its tokens.
};

/// The same for the same options; in order of time.
std::vector<Arrival> make_arrivals(const WorkloadOptions& options);

}  // namespace pregate::cli
