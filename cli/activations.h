// `pregate activations`: how much each channel of a dense model's MLPs is used by texts.
#pragma once

#include <filesystem>

#include "cli/run_with_experts.h"
#include "cli/text_windows.h"

namespace pregate::cli {

struct ActivationsOptions : ExpertsOptions {
  TextOptions text;
  std::filesystem::path out;
};

Command add_activations(CLI::App& app);

}  // namespace pregate::cli
