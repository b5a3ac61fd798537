// The paths every process answers, coordinator and worker alike: /health, /health/live,
// /health/ready, /version, /metrics.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/api/http_message.h"

namespace pregate::coordinator {

struct Readiness {
  bool ready = false;
  std::string state;  ///< For people: "ready", "loading experts 40 %", "worker 2 is gone".
};

/// Called on the I/O thread: must not block.
struct StatusHooks {
  std::function<Readiness()> readiness;
  std::function<std::string()> scrape;
  std::string version;
};

/// The answer to a GET of `path`, if it is one of these paths.
std::optional<HttpResponse> answer_status(std::string_view path, const StatusHooks& hooks);

/// Whether `path` is one of those that never need a key.
bool is_open_path(std::string_view path);

}  // namespace pregate::coordinator
