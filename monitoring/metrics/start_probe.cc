#include "monitoring/metrics/start_probe.h"

namespace pregate::monitoring {

StartProbe::StartProbe(Registry& registry, const std::string& version)
    : load_seconds_(
          registry.gauges("pregate_load_seconds", "How long a phase of the start took.")) {
  registry.gauges("pregate_build_info", "1; the labels say what is running.")
      .Add({{"version", version}})
      .Set(1);
}

void StartProbe::phase_finished(const std::string& phase, Duration duration) {
  load_seconds_.Add({{"phase", phase}}).Set(to_seconds(duration));
}

}  // namespace pregate::monitoring
