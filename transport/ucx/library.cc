#include <fmt/format.h>
#include <ucp/api/ucp.h>

#include "transport/libraries.h"

namespace pregate::transport {

LibraryVersion ucx_library() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  // The headers do not know the release.
  return {"UCX", fmt::format("{}.{}", UCP_API_MAJOR, UCP_API_MINOR),
          fmt::format("{}.{}.{}", major, minor, release)};
}

}  // namespace pregate::transport
