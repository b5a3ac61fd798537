// What `pregate bench` does.
#pragma once

#include "cli/bench.h"

namespace pregate::cli {

Status run_bench(const BenchOptions& options);

}  // namespace pregate::cli
