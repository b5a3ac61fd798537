// How often each source of look-ahead is right, measured side by side on the same steps.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "router/lookahead/metered_lookahead.h"
#include "router/lookahead/sources.h"

namespace pregate::cli {

/// Asks every source and follows none, so that all are measured in one run.
class LookaheadAccuracy {
 public:
  /// Counts by layer.
  using Counts = std::map<LayerIdx, router::GuessCounts>;

  /// Everything that the model can have; `replay`: a trace, or empty.
  static Result<std::unique_ptr<LookaheadAccuracy>> create(const router::LookaheadParts& parts,
                                                           size_t depth, const std::string& replay);

  /// For one engine, which must not outlive this object. It says nothing.
  std::unique_ptr<router::Lookahead> listener();

  /// What follows is counted under this name. Before the first: not counted, but learned from.
  void begin_part(const std::string& part) { part_ = part; }
  /// A table of a part: layers down, sources across.
  std::string describe(const std::string& part) const;

 private:
  explicit LookaheadAccuracy(router::MoeLayers moe) : moe_(std::move(moe)) {}
  void add(std::unique_ptr<router::Lookahead> source);
  std::string row(const std::string& part, const std::string& name,
                  const std::vector<LayerIdx>& layers) const;

  class Listener;
  const router::MoeLayers moe_;
  std::vector<std::unique_ptr<router::Lookahead>> sources_;
  std::string part_;
  std::map<std::string, std::vector<Counts>> counts_;        // [part][source]
  std::map<std::string, std::map<LayerIdx, size_t>> steps_;  // [part][layer]
};

}  // namespace pregate::cli
