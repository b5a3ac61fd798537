#include "monitoring/metrics/process_collector.h"

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>

#include <sys/resource.h>
#include <unistd.h>

namespace pregate::monitoring {
namespace {

prometheus::MetricFamily family(const char* name, const char* help, prometheus::MetricType type,
                                double value) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  return {name, help, type, {metric}};
}

/// -1 when it cannot be read.
double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t total_pages = 0, resident_pages = 0;
  if (!(statm >> total_pages >> resident_pages)) return -1.0;
  return static_cast<double>(resident_pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

/// -1 when it cannot be read.
double open_descriptors() {
  std::error_code ec;
  const std::filesystem::directory_iterator entries("/proc/self/fd", ec);
  if (ec) return -1.0;
  // One of the entries is the descriptor of this very listing.
  return static_cast<double>(std::distance(begin(entries), end(entries)) - 1);
}

}  // namespace

std::vector<prometheus::MetricFamily> collect_process_metrics() {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> families;
  if (const double bytes = resident_bytes(); bytes >= 0) {
    families.push_back(family("process_resident_memory_bytes", "Resident memory of this process.",
                              MetricType::Gauge, bytes));
  }
  if (rusage usage{}; getrusage(RUSAGE_SELF, &usage) == 0) {
    families.push_back(family("process_cpu_seconds_total", "User and system CPU time spent.",
                              MetricType::Counter,
                              seconds(usage.ru_utime) + seconds(usage.ru_stime)));
  }
  if (const double count = open_descriptors(); count >= 0) {
    families.push_back(
        family("process_open_fds", "Open file descriptors.", MetricType::Gauge, count));
  }
  return families;
}

}  // namespace pregate::monitoring
