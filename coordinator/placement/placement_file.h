// `--placement FILE`; the format is in docs/how-to/placement-file.md.
#pragma once

#include <filesystem>
#include <string>

#include "coordinator/placement/placement.h"

namespace pregate::coordinator {

/// Errors are kInvalidArgument and name the file and the field in it: unknown worker, expert out of
/// range, placed twice at one worker, or missing.
Result<Placement> read_placement(const std::filesystem::path& path, uint64_t version,
                                 const PlacementShape& shape, std::span<const WorkerId> workers);

}  // namespace pregate::coordinator
