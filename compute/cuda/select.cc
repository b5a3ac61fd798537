#include "compute/cuda/select.h"

#include "base/bytes.h"
#include "base/cuda_name.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/loader.h"

namespace pregate::compute::cuda {
namespace {

std::string describe(size_t index, const DeviceInfo& device) {
  std::string text =
      fmt::format("{} {}, {}", cuda_name(index), device.name, describe_bytes(device.memory_bytes));
  if (!is_usable(device)) {
    text += fmt::format(" (not used: compute capability {}.{}, needed is {}.0 or newer)",
                        device.major, device.minor, kMinMajor);
  }
  return text;
}

/// The error says which name it was.
Result<size_t> parse_device(const std::string& name) {
  auto device = parse_cuda_name(name);
  if (!device) return fail(in_context(std::move(device.error()), name));
  return device;
}

}  // namespace

Result<std::unique_ptr<Backend>> open_backend(const std::string& name, ThreadPool& threads) {
  PREGATE_ASSIGN(const size_t index, parse_device(name));
  PREGATE_ASSIGN(auto device, devices().open(index));
  return make_cuda_backend(std::move(device), index, threads);
}

Result<MachineLimits> measure_device(const std::string& name) {
  PREGATE_ASSIGN(const size_t index, parse_device(name));
  PREGATE_ASSIGN(const auto device, devices().open(index));
  PREGATE_ASSIGN(const DeviceLimits limits, device->measure_limits());
  return MachineLimits{.read_bytes_per_s = limits.read_bytes_per_s,
                       .bf16_flops = limits.bf16_flops};
}

std::vector<std::string> usable_devices() {
  const auto all = devices().list();
  if (!all) return {};
  std::vector<std::string> names;
  for (size_t index = 0; index < all->size(); ++index) {
    if (is_usable((*all)[index])) names.push_back(cuda_name(index));
  }
  return names;
}

std::string describe_devices() {
  const auto all = devices().list();
  if (!all) return all.error().message;
  if (all->empty()) return "this machine has no device";
  std::string text;
  for (size_t index = 0; index < all->size(); ++index) {
    text += (index > 0 ? "; " : "") + describe(index, (*all)[index]);
  }
  return text;
}

}  // namespace pregate::compute::cuda
