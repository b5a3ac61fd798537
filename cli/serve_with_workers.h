// `pregate serve --workers N`: a cluster on one machine, with one command.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/local_workers.h"
#include "cli/serve.h"
#include "cli/signals.h"

namespace pregate::cli {

/// How many threads each process gets: --threads, or else the cores divided by the workers.
/// Coordinator and workers take turns, so that they can have the same cores.
size_t threads_of_each(const ServeOptions& options, size_t num_cores);

/// What each worker may fill with experts, of what is free before any of them runs: later it would
/// count what the others are about to take. 0: unknown, or all that there is, where --expert-memory
/// bounds what is in memory.
uint64_t memory_of_each(const ServeOptions& options, uint64_t available_bytes);

struct LocalCluster {
  std::string address;  ///< Of the coordinator.
  std::filesystem::path secret_file;
  uint64_t memory_bytes = 0;  ///< See memory_of_each().
};

/// `pregate worker` as often as asked for. The options' num_threads is that of each.
std::vector<LocalProgram> worker_programs(const ServeOptions& options, const LocalCluster& cluster);

/// Until SIGINT or SIGTERM.
Status serve_with_workers(const ServeOptions& options, Signals& signals);

}  // namespace pregate::cli
