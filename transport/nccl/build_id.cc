#include "transport/nccl/module.h"

namespace pregate::transport {

const char* const kNcclBuildId = PREGATE_BUILD_ID;

}  // namespace pregate::transport
