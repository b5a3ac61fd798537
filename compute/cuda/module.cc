#include "compute/cuda/module.h"

#include "compute/cuda/runtime_device.h"

// All else in the module is hidden.
extern "C" __attribute__((visibility("default"))) const pregate::compute::cuda::Module*
pregate_cuda_module() {
  using namespace pregate::compute::cuda;
  static const Module module{.list_devices = list_runtime_devices,
                             .open_device = open_runtime_device};
  return &module;
}
