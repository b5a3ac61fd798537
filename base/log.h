// One log for the process, on standard error: "time level [component] message".
#pragma once

#include <string>

#include <spdlog/spdlog.h>

#include "base/result.h"

namespace pregate {

/// Sets level ("trace" ... "error") and the component shown in every line, for example
/// "coordinator" or "worker/2". Call once, early in main.
Status init_log(const std::string& level, const std::string& component);

}  // namespace pregate
