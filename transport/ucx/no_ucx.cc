// Stands in for ucx.cc in a build without UCX.
#include "transport/ucx/ucx.h"

namespace pregate::transport {

Result<std::unique_ptr<UcxTransport>> make_ucx_transport(const UcxOptions&) {
  return fail(ErrorCode::kUnimplemented,
              "this build has no UCX: install libucx-dev and build again");
}

}  // namespace pregate::transport
