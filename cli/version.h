// `pregate version`: the version and what this build and this machine can do.
#pragma once

#include "cli/command.h"

namespace pregate::cli {

/// For example "0.1.0".
extern const char* const kVersion;

Command add_version(CLI::App& app);

}  // namespace pregate::cli
