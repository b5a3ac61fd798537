// What the operating system knows about this process, under the names every Prometheus client uses.
#pragma once

#include <vector>

#include <prometheus/metric_family.h>

namespace pregate::monitoring {

/// Reads /proc/self; a figure that cannot be read is left out.
std::vector<prometheus::MetricFamily> collect_process_metrics();

}  // namespace pregate::monitoring
