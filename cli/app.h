// The program: all its commands under one name.
#pragma once

#include <string>
#include <vector>

#include "cli/settings.h"

namespace pregate::cli {

/// Runs the command that `arguments` (without the program's name) ask for; returns the exit code.
int run_app(const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace pregate::cli
