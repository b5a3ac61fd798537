// When experts will be needed, as far as plans say.
#pragma once

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "router/lookahead/lookahead.h"
#include "worker/experts/expert_key.h"

namespace pregate::worker {

/// Not thread-safe.
class KnownUses {
 public:
  struct Use {
    router::LayerTime when = 0;
    bool certain = false;
    float likelihood = 1;
    ExpertKey key;

    /// Nearest first; of one time the certain ones, then the likelier.
    bool operator<(const Use& other) const;
  };

  /// What was said before of the same expert and time gives way, unless it was certain. What has
  /// passed, or can never be (a likelihood of 0), is left out.
  void add(const router::Plan& plan);
  /// Time goes on to `now`, never back: all before it is forgotten.
  void advance(router::LayerTime now);
  /// The experts of the present layer are known: what was planned for it, or before, is forgotten.
  void pass(router::LayerTime now) { advance(now + 1); }

  /// How far away the next use is, in layers; 0 is now. A guess counts as that much farther away as
  /// it is less likely, so that two guesses of one half weigh as one that is certain. Nothing if
  /// no use is known.
  std::optional<double> distance(const ExpertKey& key) const;
  double distance(const Use& use) const;
  /// When the use after the next is, as far as that is known.
  std::optional<router::LayerTime> second_use(const ExpertKey& key) const;
  /// The first time of which plans say nothing: after the last use that is certain, or now.
  router::LayerTime end() const { return std::max(now_, end_); }
  /// How far away the next use is to be expected, guesses weighed by their likelihood.
  /// `rest(from)`: the same where no use is known, from that time on.
  template <typename Rest>
  double expected_distance(const ExpertKey& key, const Rest& rest) const;

  /// Whether the expert is there, so that it need not be brought in; none is at first.
  void set_present(const ExpertKey& key, bool present);
  /// The uses of experts that are not there, in order.
  const std::set<Use>& absent() const { return absent_; }
  router::LayerTime now() const { return now_; }

 private:
  void add(const Use& use);
  void erase(const Use& use);

  router::LayerTime now_ = 0, end_ = 0;
  std::set<Use> in_order_;
  std::map<ExpertKey, std::map<router::LayerTime, Use>> by_key_;  // the same
  std::set<ExpertKey> present_;
  std::set<Use> absent_;  // those of in_order_ that are not of present_
};

template <typename Rest>
double KnownUses::expected_distance(const ExpertKey& key, const Rest& rest) const {
  const auto uses = by_key_.find(key);
  if (uses == by_key_.end()) return rest(end());
  double distance = 0, share = 1;  // share: how likely none of those before happens
  router::LayerTime from = now_;
  for (const auto& [when, use] : uses->second) {
    distance += share * use.likelihood * static_cast<double>(when - now_);
    if (use.certain) return distance;
    share *= 1 - use.likelihood;
    from = when + 1;
  }
  return distance + share * rest(std::max(from, end()));
}

}  // namespace pregate::worker
