// What a routing trace says about locality and balance.
#pragma once

#include <span>
#include <vector>

#include "router/trace.h"

namespace pregate::router {

/// Of the layer's tokens, each expert's share: [E], adding up to 1 (0 where there is no token).
std::vector<double> expert_shares(const RoutingTrace& trace, size_t layer);

/// The largest share times the number of experts: 1 is perfect balance, E a single expert.
double imbalance(std::span<const double> shares);

/// Of a token's experts, the part that the token before it in the window used as well, mean over
/// the tokens. Independent even routing would give K / E.
double repeat_rate(const RoutingTrace& trace, size_t layer);

/// In bits: 0 for equal distributions, 1 for disjoint ones. (Lin 1991, equation 4.1 with equal
/// weights.)
double jensen_shannon_divergence(std::span<const double> p, std::span<const double> q);

}  // namespace pregate::router
