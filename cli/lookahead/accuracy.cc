#include "cli/lookahead/accuracy.h"

namespace pregate::cli {

using router::GuessCounts;

class LookaheadAccuracy::Listener final : public router::Lookahead {
 public:
  explicit Listener(LookaheadAccuracy& accuracy) : accuracy_(accuracy) {}

  std::string_view name() const override { return "all"; }
  void begin_step(const router::StepTokens& step, router::LayerTime now,
                  router::Plan& /*plan*/) override {
    for (const auto& source : accuracy_.sources_) source->begin_step(step, now, ignored());
  }
  void routed(LayerIdx layer, router::LayerTime now, compute::Matrix<const float> rows,
              const router::Decisions& decisions, router::Plan& /*plan*/) override {
    ++accuracy_.steps_[accuracy_.part_][layer];
    for (const auto& source : accuracy_.sources_) {
      source->routed(layer, now, rows, decisions, ignored());
    }
  }

 private:
  router::Plan& ignored() {
    ignored_.clear();
    return ignored_;
  }

  LookaheadAccuracy& accuracy_;
  router::Plan ignored_;
};

Result<std::unique_ptr<LookaheadAccuracy>> LookaheadAccuracy::create(
    const router::LookaheadParts& parts, size_t depth, const std::string& replay) {
  std::unique_ptr<LookaheadAccuracy> accuracy(new LookaheadAccuracy(parts.moe));
  std::vector<std::string> names{"auto", "transitions"};
  if (!replay.empty()) names.push_back("replay:" + replay);
  for (const std::string& name : names) {
    PREGATE_ASSIGN(auto source, router::make_lookahead({.source = name, .depth = depth}, parts));
    if (source != nullptr) accuracy->add(std::move(source));
  }
  if (!accuracy->sources_.empty()) return accuracy;
  return fail(ErrorCode::kInvalidArgument, "the model has no experts to look ahead to");
}

void LookaheadAccuracy::add(std::unique_ptr<router::Lookahead> source) {
  const size_t index = sources_.size();
  const auto count = [this, index](const router::GuessReport& report) {
    std::vector<Counts>& counts = counts_[part_];
    counts.resize(sources_.size());
    counts[index][report.layer] += report.counts;
  };
  constexpr router::PayRule kAlways{.off_below = 0};
  sources_.push_back(
      std::make_unique<router::MeteredLookahead>(std::move(source), moe_, kAlways, count));
}

std::unique_ptr<router::Lookahead> LookaheadAccuracy::listener() {
  return std::make_unique<Listener>(*this);
}

std::string LookaheadAccuracy::describe(const std::string& part) const {
  if (!counts_.contains(part)) return part + ": no steps\n";
  std::string table = fmt::format("{}, {} steps\n{:<8}{:>10}", part,
                                  steps_.at(part).begin()->second, "", "by chance");
  for (const auto& source : sources_) table += fmt::format("{:>24}", source->name());
  table += fmt::format("\n{:<8}{:>10}", "layer", "precision");
  for (size_t i = 0; i < sources_.size(); ++i) {
    table += fmt::format("{:>14}{:>10}", "precision", "recall");
  }
  table += "\n";
  for (const LayerIdx layer : moe_.layers) {
    table += row(part, std::to_string(layer.value), {layer});
  }
  return table + row(part, "all", moe_.layers);
}

std::string LookaheadAccuracy::row(const std::string& part, const std::string& name,
                                   const std::vector<LayerIdx>& layers) const {
  std::string cells;
  uint64_t num_used = 0, num_chances = 0;
  for (const LayerIdx layer : layers) num_chances += steps_.at(part).at(layer) * moe_.num_experts;
  for (const Counts& of_source : counts_.at(part)) {
    GuessCounts sum;
    for (const LayerIdx layer : layers) sum += of_source.at(layer);
    num_used = sum.used;
    cells +=
        fmt::format("{:>14}{:>10.3f}",
                    sum.guessed == 0 ? "-" : fmt::format("{:.3f}", sum.precision()), sum.recall());
  }
  return fmt::format("{:<8}{:>10.3f}{}\n", name,
                     static_cast<double>(num_used) / static_cast<double>(num_chances), cells);
}

}  // namespace pregate::cli
