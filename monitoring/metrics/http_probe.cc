#include "monitoring/metrics/http_probe.h"

#include <string>

namespace pregate::monitoring {

HttpProbe::HttpProbe(Registry& registry)
    : requests_(registry.counters("http_requests_total", "HTTP requests answered.")),
      seconds_(registry.histograms("http_request_duration_seconds",
                                   "From the whole request read to the whole answer written.")) {}

void HttpProbe::request_finished(std::string_view handler, std::string_view method, int status,
                                 Duration duration) {
  const std::string path(handler), verb(method);
  requests_.Add({{"handler", path}, {"method", verb}, {"status", std::to_string(status)}})
      .Increment();
  seconds_.Add({{"handler", path}, {"method", verb}}, http_buckets()).Observe(to_seconds(duration));
}

}  // namespace pregate::monitoring
