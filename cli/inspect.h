// `pregate inspect`: what a checkpoint is and how much memory it will take.
#pragma once

#include <string>

#include "cli/command.h"
#include "compute/types.h"
#include "model/config.h"
#include "model/summary.h"

namespace pregate::cli {

struct InspectOptions {
  std::string model;
  size_t num_workers = 0;  ///< 0: one process.
  compute::WeightFormat weights = compute::WeightFormat::kBf16;
};

/// The page that `inspect` prints.
std::string describe_model(const model::ModelConfig& config, const model::ModelSummary& summary,
                           const InspectOptions& options);

Command add_inspect(CLI::App& app);

}  // namespace pregate::cli
