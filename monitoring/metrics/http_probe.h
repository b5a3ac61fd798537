#pragma once

#include <string_view>

#include "base/clock.h"
#include "monitoring/metrics/registry.h"

namespace pregate::monitoring {

/// Thread-safe.
class HttpProbe {
 public:
  explicit HttpProbe(Registry& registry);

  /// `handler` and `method` must come from small fixed sets, never from the request itself.
  void request_finished(std::string_view handler, std::string_view method, int status,
                        Duration duration);

 private:
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& seconds_;
};

}  // namespace pregate::monitoring
