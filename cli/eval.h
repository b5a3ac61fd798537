// `pregate eval`: how well a model predicts texts.
#pragma once

#include "cli/run_with_experts.h"
#include "cli/text_windows.h"

namespace pregate::cli {

struct EvalOptions : ExpertsOptions {
  TextOptions text;
  bool json = false;
};

Command add_eval(CLI::App& app);

}  // namespace pregate::cli
