#include "worker/experts/cache/use_rates.h"

#include <algorithm>
#include <cmath>

namespace pregate::worker {
namespace {

/// Steps after which a use counts 1/e. On traces of texts 8 to 64 differ by little.
constexpr double kMemorySteps = 16;
/// Of what was never needed, or not for long.
constexpr double kSmallestShare = 1e-6;

}  // namespace

void UseRates::used(const ExpertKey& key, router::LayerTime now) {
  Rate& rate = rates_[key];
  rate = {faded(rate, now) + 1 / kMemorySteps, now};
}

double UseRates::expected_distance(const ExpertKey& key, router::LayerTime from) const {
  const router::LayerTime layer = key.first.value % num_layers_, at = from % num_layers_;
  const auto until_layer = static_cast<double>((layer + num_layers_ - at) % num_layers_);
  const auto rate = rates_.find(key);
  const double known = rate == rates_.end() ? 0 : faded(rate->second, from);
  const double share = std::clamp(known, kSmallestShare, 1.0);
  return until_layer + (1 / share - 1) * static_cast<double>(num_layers_);
}

double UseRates::faded(const Rate& rate, router::LayerTime now) const {
  const router::LayerTime elapsed = now > rate.at ? now - rate.at : 0;
  const double steps = static_cast<double>(elapsed) / static_cast<double>(num_layers_);
  return rate.share * std::exp(-steps / kMemorySteps);
}

}  // namespace pregate::worker
