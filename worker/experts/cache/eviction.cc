#include "worker/experts/cache/eviction.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>

#include "base/random.h"
#include "worker/experts/cache/use_rates.h"

namespace pregate::worker {
namespace {

/// When each expert was last loaded or used, in events.
class Recency {
 public:
  void touch(const ExpertKey& key) { last_[key] = ++num_events_; }
  void forget(const ExpertKey& key) { last_.erase(key); }
  /// 0 for never.
  uint64_t last(const ExpertKey& key) const {
    const auto found = last_.find(key);
    return found == last_.end() ? 0 : found->second;
  }

 private:
  uint64_t num_events_ = 0;
  std::map<ExpertKey, uint64_t> last_;
};

template <typename Rank>
size_t least_by(std::span<const ExpertKey> candidates, const Rank& rank) {
  const auto least = std::ranges::min_element(candidates, {}, rank);
  return static_cast<size_t>(least - candidates.begin());
}

class RandomEviction final : public EvictionPolicy {
 public:
  explicit RandomEviction(uint64_t seed) : random_(seed) {}
  std::string_view name() const override { return "random"; }
  size_t choose(std::span<const ExpertKey> candidates, const KnownUses&) override {
    return random_.next_below(candidates.size());
  }

 private:
  Random random_;
};

class LruEviction final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "lru"; }
  void loaded(const ExpertKey& key) override { recency_.touch(key); }
  void used(const ExpertKey& key, router::LayerTime) override { recency_.touch(key); }
  void evicted(const ExpertKey& key) override { recency_.forget(key); }
  size_t choose(std::span<const ExpertKey> candidates, const KnownUses&) override {
    return least_by(candidates, [this](const ExpertKey& key) { return recency_.last(key); });
  }

 private:
  Recency recency_;
};

class LfuEviction final : public EvictionPolicy {
 public:
  std::string_view name() const override { return "lfu"; }
  void loaded(const ExpertKey& key) override { recency_.touch(key); }
  void used(const ExpertKey& key, router::LayerTime) override {
    recency_.touch(key);
    ++num_uses_[key];
  }
  /// The count stays: an expert that is needed often must not begin anew each time it has left.
  void evicted(const ExpertKey& key) override { recency_.forget(key); }
  size_t choose(std::span<const ExpertKey> candidates, const KnownUses&) override {
    return least_by(candidates, [this](const ExpertKey& key) {
      return std::pair(num_uses_[key], recency_.last(key));
    });
  }

 private:
  Recency recency_;
  std::map<ExpertKey, uint64_t> num_uses_;
};

class BeladyEviction final : public EvictionPolicy {
 public:
  explicit BeladyEviction(size_t num_layers) : rates_(num_layers) {}
  std::string_view name() const override { return "belady"; }
  void loaded(const ExpertKey& key) override { recency_.touch(key); }
  void used(const ExpertKey& key, router::LayerTime now) override {
    recency_.touch(key);
    rates_.used(key, now);
  }
  void evicted(const ExpertKey& key) override { recency_.forget(key); }
  /// Of two that are needed again at the same time, the one that is needed sooner after that: to
  /// bring it back then serves longer.
  size_t choose(std::span<const ExpertKey> candidates, const KnownUses& uses) override {
    constexpr auto kNever = std::numeric_limits<router::LayerTime>::max();
    return least_by(candidates, [&](const ExpertKey& key) {
      const auto rest = [&](router::LayerTime from) {
        return static_cast<double>(from - uses.now()) + rates_.expected_distance(key, from);
      };
      return std::tuple(-uses.expected_distance(key, rest), uses.second_use(key).value_or(kNever),
                        recency_.last(key));
    });
  }

 private:
  Recency recency_;
  UseRates rates_;
};

struct Choice {
  std::string_view name;
  std::unique_ptr<EvictionPolicy> (*make)(const EvictionOptions& options);
};

constexpr std::array<Choice, 4> kChoices{{
    {"random",
     [](const EvictionOptions& options) -> std::unique_ptr<EvictionPolicy> {
       return std::make_unique<RandomEviction>(options.seed);
     }},
    {"lru",
     [](const EvictionOptions&) -> std::unique_ptr<EvictionPolicy> {
       return std::make_unique<LruEviction>();
     }},
    {"lfu",
     [](const EvictionOptions&) -> std::unique_ptr<EvictionPolicy> {
       return std::make_unique<LfuEviction>();
     }},
    {"belady",
     [](const EvictionOptions& options) -> std::unique_ptr<EvictionPolicy> {
       return std::make_unique<BeladyEviction>(options.num_layers);
     }},
}};

}  // namespace

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             const EvictionOptions& options) {
  for (const Choice& choice : kChoices) {
    if (choice.name == name) return choice.make(options);
  }
  return fail(ErrorCode::kInvalidArgument, "unknown eviction policy \"{}\"; known: {}", name,
              fmt::join(eviction_policy_names(), ", "));
}

std::vector<std::string> eviction_policy_names() {
  std::vector<std::string> names;
  for (const Choice& choice : kChoices) names.emplace_back(choice.name);
  return names;
}

}  // namespace pregate::worker
