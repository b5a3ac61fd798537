#include "compute/cuda/select.h"

#include <charconv>

#include "base/bytes.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/loader.h"

namespace pregate::compute::cuda {
namespace {

constexpr std::string_view kName = "cuda";

std::string device_name(size_t index) { return fmt::format("{}:{}", kName, index); }

std::string describe(size_t index, const DeviceInfo& device) {
  std::string text = fmt::format("{} {}, {}", device_name(index), device.name,
                                 describe_bytes(device.memory_bytes));
  if (!is_usable(device)) {
    text += fmt::format(" (not used: compute capability {}.{}, needed is {}.0 or newer)",
                        device.major, device.minor, kMinMajor);
  }
  return text;
}

}  // namespace

bool is_cuda_name(const std::string& name) {
  return name == kName || name.starts_with(std::string(kName) + ":");
}

Result<size_t> parse_device(const std::string& name) {
  if (name == kName) return size_t{0};
  size_t index = 0;
  const char* const last = name.data() + name.size();
  const auto [end, error] = std::from_chars(name.data() + kName.size() + 1, last, index);
  if (error == std::errc() && end == last) return index;
  return fail(ErrorCode::kInvalidArgument,
              "{}: expected the number of a device after the colon, such as cuda:0", name);
}

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
    if (is_usable((*all)[index])) names.push_back(device_name(index));
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
