// `pregate placement`: where experts should be, from what traces say of their use.
#pragma once

#include "cli/command.h"

namespace pregate::cli {

Command add_placement(CLI::App& app);

}  // namespace pregate::cli
