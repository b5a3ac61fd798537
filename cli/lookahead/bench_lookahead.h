// `pregate bench lookahead`: what look-ahead is worth on a model and texts.
#pragma once

#include "cli/command.h"

namespace pregate::cli {

/// Part of `bench`.
Command add_bench_lookahead(CLI::App& bench);

}  // namespace pregate::cli
