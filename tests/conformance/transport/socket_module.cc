// A module whose lanes are sockets, for processes that are told --nccl where there is no GPU
// (PREGATE_NCCL_MODULE).
#include "tests/conformance/transport/socket_lanes.h"
#include "transport/nccl/module.h"

extern "C" __attribute__((visibility("default"))) const pregate::ModuleHead* pregate_nccl_module() {
  using namespace pregate::transport;
  static const NcclModule module{.version = [] { return std::string("of sockets"); },
                                 .open = [](size_t) -> pregate::Result<std::shared_ptr<LaneMaker>> {
                                   return std::make_shared<SocketLanes>();
                                 }};
  return &module.head;
}
