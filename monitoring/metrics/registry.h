// The metrics of one process. Components do not touch them directly: each has a probe with verbs
// (`probe.request_finished(...)`) that looks its metric objects up once.
#pragma once

#include <memory>
#include <string>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "monitoring/metrics/buckets.h"

namespace pregate::monitoring {

/// Thread-safe. Must outlive every probe made from it.
class Registry {
 public:
  /// Metrics of one name in this registry must be asked for with the same type; labels may differ.
  prometheus::Family<prometheus::Counter>& counters(const std::string& name,
                                                    const std::string& help);
  prometheus::Family<prometheus::Gauge>& gauges(const std::string& name, const std::string& help);
  prometheus::Family<prometheus::Histogram>& histograms(const std::string& name,
                                                        const std::string& help);

  /// Everything, with the process's own figures, in Prometheus' text format.
  std::string scrape() const;

 private:
  prometheus::Registry registry_;
};

/// What scrape() must be served as.
inline constexpr const char* kScrapeContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace pregate::monitoring
