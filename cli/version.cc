#include "cli/version.h"

#include "compute/backend.h"
#include "compute/cuda/select.h"
#include "transport/nccl/loader.h"

namespace pregate::cli {

const char* const kVersion = PREGATE_VERSION;

Command add_version(CLI::App& app) {
  Command command = make_command(app, "version", "Show the version and the back ends", "");
  command.run = []() -> Status {
    fmt::print("pregate {}\nback ends: {}\nCUDA: {}\nNCCL: {}\n", kVersion,
               fmt::join(compute::available_backends(), ", "), compute::cuda::describe_devices(),
               transport::describe_nccl());
    return {};
  };
  return command;
}

}  // namespace pregate::cli
