// Usage: cuda_module_loads MODULE
// Loads the module that was built. Without a device it must say why there is none; with one, memory
// must go there and come back.
#include <vector>

#include "compute/cuda/loader.h"

namespace pregate::compute::cuda {
namespace {

constexpr size_t kBytes = 3 << 20;
constexpr size_t kTooMany = size_t{1} << 50;

#define EXPECT(condition)                                                        \
  do {                                                                           \
    if (!(condition)) return fail(ErrorCode::kInternal, "expected " #condition); \
  } while (false)

Status check_copies(Device& device) {
  PREGATE_ASSIGN(std::byte* const there, device.allocate(kBytes));
  EXPECT(reinterpret_cast<uintptr_t>(there) % 1024 == 0);
  PREGATE_ASSIGN(std::byte* const pinned, device.allocate_pinned(kBytes));
  PREGATE_ASSIGN(const auto stream, device.make_stream());
  std::vector<std::byte> back(kBytes);
  for (size_t i = 0; i < kBytes; ++i) pinned[i] = std::byte(i * 31 >> 3);
  stream->upload(there, pinned, kBytes);
  stream->download(back.data(), there, kBytes);
  PREGATE_TRY(stream->synchronize());
  EXPECT(std::equal(back.begin(), back.end(), pinned));
  device.free_pinned(pinned);
  device.free(there);
  return {};
}

Status check_memory(Device& device) {
  const auto refused = device.allocate(kTooMany);
  EXPECT(!refused);
  EXPECT(refused.error().code == ErrorCode::kResourceExhausted);
  fmt::print("{}\n", refused.error().message);
  EXPECT(device.info().free_bytes > 0);
  return check_copies(device);
}

Status check(Devices& devices) {
  const auto all = devices.list();
  if (!all) {
    fmt::print("{}\n", all.error().message);
    EXPECT(all.error().message.find("driver") != std::string::npos);
    return {};
  }
  fmt::print("{} devices\n", all->size());
  const auto missing = devices.open(all->size());
  EXPECT(!missing);
  EXPECT(missing.error().code == ErrorCode::kNotFound);
  for (size_t i = 0; i < all->size(); ++i) {
    if (!is_usable((*all)[i])) continue;
    PREGATE_ASSIGN(const auto device, devices.open(i));
    fmt::print("{}\n", device->info().name);
    PREGATE_TRY(check_memory(*device));
  }
  return {};
}

}  // namespace
}  // namespace pregate::compute::cuda

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  pregate::compute::cuda::Devices devices({argv[1]});
  const pregate::Status checked = pregate::compute::cuda::check(devices);
  if (!checked) fmt::print("{}\n", checked.error().message);
  return checked ? 0 : 1;
}
