#include "monitoring/metrics/registry.h"

#include <iterator>

#include <prometheus/text_serializer.h>

#include "monitoring/metrics/process_collector.h"

namespace pregate::monitoring {

prometheus::Family<prometheus::Counter>& Registry::counters(const std::string& name,
                                                            const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
}

prometheus::Family<prometheus::Gauge>& Registry::gauges(const std::string& name,
                                                        const std::string& help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry_);
}

prometheus::Family<prometheus::Histogram>& Registry::histograms(const std::string& name,
                                                                const std::string& help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
}

std::string Registry::scrape() const {
  auto families = registry_.Collect();
  auto process = collect_process_metrics();
  families.insert(families.end(), std::make_move_iterator(process.begin()),
                  std::make_move_iterator(process.end()));
  return prometheus::TextSerializer{}.Serialize(families);
}

}  // namespace pregate::monitoring
