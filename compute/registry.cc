#include <algorithm>

#include "compute/backend.h"
#include "compute/reference/backend.h"

namespace pregate::compute {

std::vector<std::string> available_backends() { return {"reference"}; }

Result<std::unique_ptr<Backend>> make_backend(const std::string& name, ThreadPool&) {
  if (name == "reference" || name == "cpu") return std::make_unique<reference::ReferenceBackend>();
  return fail(ErrorCode::kInvalidArgument, "{}: no such back end; known: cpu, reference", name);
}

}  // namespace pregate::compute
