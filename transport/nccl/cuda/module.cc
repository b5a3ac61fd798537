#include "transport/nccl/module.h"

#include "transport/nccl/cuda/device_lanes.h"

// All else in the module is hidden.
extern "C" __attribute__((visibility("default"))) const pregate::ModuleHead* pregate_nccl_module() {
  using namespace pregate::transport;
  static const NcclModule module{.version = nccl_version, .open = open_device_lanes};
  return &module.head;
}
