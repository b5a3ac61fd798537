// `pregate make-model`: an untrained checkpoint with real shapes, for trying things out.
#pragma once

#include "cli/command.h"

namespace pregate::cli {

Command add_make_model(CLI::App& app);

}  // namespace pregate::cli
