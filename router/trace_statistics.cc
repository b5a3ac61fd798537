#include "router/trace_statistics.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace pregate::router {

std::vector<double> expert_shares(const RoutingTrace& trace, size_t layer) {
  std::vector<double> shares(trace.num_experts);
  const double share = 1.0 / static_cast<double>(trace.num_tokens() * trace.top_k);
  for (size_t token = 0; token < trace.num_tokens(); ++token) {
    for (const uint16_t expert : trace.experts_of(token, layer)) shares[expert] += share;
  }
  return shares;
}

double imbalance(std::span<const double> shares) {
  return *std::ranges::max_element(shares) * static_cast<double>(shares.size());
}

double repeat_rate(const RoutingTrace& trace, size_t layer) {
  size_t num_repeated = 0, num_compared = 0, window = 0;
  for (size_t token = 0; token < trace.num_tokens(); ++token) {
    if (window < trace.starts.size() && token == trace.starts[window]) {
      ++window;  // the first token of a window has none before it
      continue;
    }
    const auto before = trace.experts_of(token - 1, layer);
    for (const uint16_t expert : trace.experts_of(token, layer)) {
      if (std::ranges::find(before, expert) != before.end()) ++num_repeated;
    }
    num_compared += trace.top_k;
  }
  return num_compared == 0 ? 0.0 : static_cast<double>(num_repeated) / num_compared;
}

double jensen_shannon_divergence(std::span<const double> p, std::span<const double> q) {
  PREGATE_CHECK(p.size() == q.size());
  const auto term = [](double a, double mean) { return a > 0.0 ? a * std::log2(a / mean) : 0.0; };
  double divergence = 0.0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double mean = (p[i] + q[i]) / 2.0;
    divergence += (term(p[i], mean) + term(q[i], mean)) / 2.0;
  }
  return divergence;
}

}  // namespace pregate::router
