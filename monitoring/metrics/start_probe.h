#pragma once

#include <string>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// What this program is and how long its start took. Thread-safe.
class StartProbe {
 public:
  StartProbe(Registry& registry, const std::string& version);

  /// `phase`: a short fixed word, such as "weights".
  void phase_finished(const std::string& phase, Duration duration);

 private:
  prometheus::Family<prometheus::Gauge>& load_seconds_;
};

}  // namespace pregate::monitoring
