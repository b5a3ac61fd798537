// `pregate doctor`: whether a host, or all hosts of an mpirun, can serve a model.
#pragma once

#include "cli/command.h"

namespace pregate::cli {

Command add_doctor(CLI::App& app);

}  // namespace pregate::cli
