#include "cli/lookahead/workload.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace pregate::cli {
namespace {

double exponential(double mean, Random& random) {
  return -mean * std::log(1.0 - random.next_double());
}

size_t length(double mean, size_t max, Random& random) {
  const auto tokens = static_cast<size_t>(exponential(mean, random)) + 1;
  return std::min(tokens, max);
}

/// Draws from a domain's experts, the one of rank 0 being the domain's own.
class Domain {
 public:
  Domain(const WorkloadOptions& options, size_t domain) : options_(options), domain_(domain) {
    for (size_t rank = 0; rank < options.num_experts; ++rank) {
      shares_.push_back(std::pow(static_cast<double>(rank + 1), -options.zipf));
    }
  }

  size_t next(size_t previous, Random& random) const {
    if (random.next_double() < options_.stay) return previous;
    size_t expert = previous;
    while (expert == previous) expert = draw(random);
    return expert;
  }
  size_t draw(Random& random) const {
    double total = 0;
    for (const double share : shares_) total += share;
    double left = random.next_double() * total;
    size_t rank = 0;
    while (rank + 1 < shares_.size() && left >= shares_[rank]) left -= shares_[rank++];
    return (domain_ + rank) % options_.num_experts;
  }

 private:
  const WorkloadOptions& options_;
  const size_t domain_;
  std::vector<double> shares_;  // by rank
};

}  // namespace

std::vector<Arrival> make_arrivals(const WorkloadOptions& options) {
  Random random(options.seed);
  std::vector<Arrival> arrivals;
  double now_ms = 0;
  for (size_t i = 0; i < options.num_requests; ++i) {
    now_ms += exponential(1000.0 / options.requests_per_second, random);
    Arrival arrival{.at_ms = now_ms,
                    .num_prompt = length(options.mean_prompt_tokens, options.max_tokens, random),
                    .num_answer = length(options.mean_answer_tokens, options.max_tokens, random),
                    .experts = {}};
    const Domain domain(options, random.next_below(options.num_experts));
    size_t expert = domain.draw(random);
    while (arrival.experts.size() < arrival.num_prompt + arrival.num_answer) {
      arrival.experts.emplace_back(static_cast<uint32_t>(expert));
      expert = domain.next(expert, random);
    }
    arrivals.push_back(std::move(arrival));
  }
  return arrivals;
}

}  // namespace pregate::cli
