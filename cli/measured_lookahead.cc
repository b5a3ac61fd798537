#include "cli/measured_lookahead.h"

#include "base/log.h"
#include "monitoring/metrics/lookahead_probe.h"
#include "router/lookahead/metered_lookahead.h"

namespace pregate::cli {

MakeLookahead measured_lookahead(const router::LookaheadOptions& options,
                                 monitoring::Registry& registry) {
  if (options.source == "none") return {};
  return [options, &registry](
             const router::LookaheadParts& parts) -> Result<std::unique_ptr<router::Lookahead>> {
    PREGATE_ASSIGN(auto source, router::make_lookahead(options, parts));
    if (source == nullptr) return nullptr;
    spdlog::info("look-ahead: {}", source->name());
    const auto probe = std::make_shared<monitoring::LookaheadProbe>(
        registry, std::string(source->name()), parts.moe.layers);
    const auto report = [probe](const router::GuessReport& guess) {
      probe->measured(guess.layer, guess.counts.guessed, guess.counts.hit, guess.counts.used);
      probe->set_active(guess.active);
    };
    return std::make_unique<router::MeteredLookahead>(std::move(source), parts.moe,
                                                      router::PayRule{}, report);
  };
}

}  // namespace pregate::cli
