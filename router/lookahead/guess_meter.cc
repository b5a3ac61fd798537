#include "router/lookahead/guess_meter.h"

#include <algorithm>

namespace pregate::router {
namespace {

double share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

void make_set(std::vector<ExpertId>& experts) {
  std::ranges::sort(experts);
  const auto doubles = std::ranges::unique(experts);
  experts.erase(doubles.begin(), doubles.end());
}

}  // namespace

double GuessCounts::precision() const { return share(hit, guessed); }
double GuessCounts::recall() const { return share(hit, used); }

GuessCounts& GuessCounts::operator+=(const GuessCounts& other) {
  guessed += other.guessed;
  hit += other.hit;
  used += other.used;
  return *this;
}

GuessMeter::GuessMeter(size_t num_layers, PayRule rule) : rule_(rule), layers_(num_layers) {}

void GuessMeter::guessed(const Plan& plan) {
  for (const PlannedExpert& planned : plan) open_[planned.when].push_back(planned.expert);
}

GuessCounts GuessMeter::routed(LayerIdx layer, LayerTime now, const Decisions& decisions) {
  used_ = decisions.expert_ids;
  make_set(used_);
  GuessCounts counts{.used = used_.size()};
  open_.erase(open_.begin(), open_.lower_bound(now));
  if (auto open = open_.extract(now)) {
    make_set(open.mapped());
    counts.guessed = open.mapped().size();
    const auto was_used = [&](ExpertId e) { return std::ranges::binary_search(used_, e); };
    counts.hit = static_cast<uint64_t>(std::ranges::count_if(open.mapped(), was_used));
  }
  layers_.at(layer.value) += counts;
  judge(counts.guessed, counts.hit);
  return counts;
}

void GuessMeter::judge(uint64_t guessed, uint64_t hit) {
  if (guessed == 0) return;
  num_judged_ += guessed;
  // The first guesses are averaged evenly, so that they do not weigh more than their number.
  const uint64_t over = std::min<uint64_t>(num_judged_, rule_.memory_guesses);
  const double weight = std::min(1.0, share(guessed, over));
  recent_precision_ += weight * (share(hit, guessed) - recent_precision_);
  if (num_judged_ < rule_.min_guesses) return;
  pays_ = recent_precision_ >= (pays_ ? rule_.off_below : rule_.on_from);
}

GuessCounts GuessMeter::all_layers() const {
  GuessCounts sum;
  for (const GuessCounts& layer : layers_) sum += layer;
  return sum;
}

}  // namespace pregate::router
