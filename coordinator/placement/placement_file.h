// `--placement FILE`; the format is in docs/how-to/placement-file.md.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include <boost/json.hpp>

#include "coordinator/placement/placement.h"

namespace pregate::coordinator {

/// What a file may call the workers.
struct WorkerKeys {
  std::function<std::optional<WorkerId>(std::string_view key)> find;
  std::string known;  ///< For errors.
};

/// By number, or by a name that ends with it: "2" or "worker-2".
WorkerKeys numbered_workers(std::vector<WorkerId> workers);
/// The same for workers that are yet to come: any number up to `max_id`, but 0.
WorkerKeys future_workers(uint32_t max_id);
/// By name.
WorkerKeys named_workers(std::map<std::string, WorkerId, std::less<>> workers);

/// Errors are kInvalidArgument and name the field: unknown worker, expert out of range, placed
/// twice at one worker, or missing.
Result<Placement> parse_placement(std::string_view text, uint64_t version,
                                  const PlacementShape& shape, const WorkerKeys& workers);

/// The same, from a file, which errors name too.
Result<Placement> read_placement(const std::filesystem::path& path, uint64_t version,
                                 const PlacementShape& shape, const WorkerKeys& workers);

/// What parse_placement() reads. The order of an expert's replicas is lost: the file has that of
/// its workers, which is the order of `names`.
boost::json::object write_placement(const Placement& placement, const PlacementShape& shape,
                                    const std::map<WorkerId, std::string>& names);

}  // namespace pregate::coordinator
