#include "worker/experts/cache/known_uses.h"

#include <algorithm>
#include <tuple>

namespace pregate::worker {

bool KnownUses::Use::operator<(const Use& other) const {
  return std::tuple(when, !certain, -likelihood, key) <
         std::tuple(other.when, !other.certain, -other.likelihood, other.key);
}

void KnownUses::add(const router::Plan& plan) {
  for (const router::PlannedExpert& planned : plan) {
    const float likelihood = planned.certain ? 1.0f : std::min(planned.likelihood, 1.0f);
    if (planned.when < now_ || !(likelihood > 0)) continue;
    add({planned.when, planned.certain, likelihood, {planned.layer, planned.expert}});
  }
}

void KnownUses::add(const Use& use) {
  auto& uses = by_key_[use.key];
  const auto [before, is_new] = uses.emplace(use.when, use);
  if (!is_new) {
    if (before->second.certain) return;
    erase(before->second);
    before->second = use;
  }
  if (use.certain) end_ = std::max(end_, use.when + 1);
  in_order_.insert(use);
  if (!present_.contains(use.key)) absent_.insert(use);
}

void KnownUses::erase(const Use& use) {
  in_order_.erase(use);
  absent_.erase(use);
}

void KnownUses::set_present(const ExpertKey& key, bool present) {
  present ? void(present_.insert(key)) : void(present_.erase(key));
  const auto uses = by_key_.find(key);
  if (uses == by_key_.end()) return;
  for (const auto& [when, use] : uses->second) {
    present ? void(absent_.erase(use)) : void(absent_.insert(use));
  }
}

void KnownUses::advance(router::LayerTime now) {
  now_ = std::max(now_, now);
  while (!in_order_.empty() && in_order_.begin()->when < now_) {
    const Use past = *in_order_.begin();
    erase(past);
    const auto uses = by_key_.find(past.key);
    uses->second.erase(past.when);
    if (uses->second.empty()) by_key_.erase(uses);
  }
}

double KnownUses::distance(const Use& use) const {
  // One more, so that of two guesses for the present layer the likelier one is nearer.
  return static_cast<double>(use.when - now_ + 1) / static_cast<double>(use.likelihood) - 1;
}

std::optional<router::LayerTime> KnownUses::second_use(const ExpertKey& key) const {
  const auto uses = by_key_.find(key);
  if (uses == by_key_.end() || uses->second.size() < 2) return std::nullopt;
  return std::next(uses->second.begin())->first;
}

std::optional<double> KnownUses::distance(const ExpertKey& key) const {
  const auto uses = by_key_.find(key);
  if (uses == by_key_.end()) return std::nullopt;
  std::optional<double> nearest;
  for (const auto& [when, use] : uses->second) {
    const double here = distance(use);
    nearest = std::min(nearest.value_or(here), here);
    if (use.certain) break;  // All later ones are farther away.
  }
  return nearest;
}

}  // namespace pregate::worker
