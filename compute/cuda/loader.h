// Finds and loads the module with the CUDA code, and opens devices with it. Thread-safe.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/module.h"
#include "base/result.h"
#include "compute/cuda/module.h"

namespace pregate::compute::cuda {

/// Devices of this compute capability or newer are used.
inline constexpr int kMinMajor = 8;
inline bool is_usable(const DeviceInfo& device) { return device.major >= kMinMajor; }

/// The devices of a module, which is the first of `paths` that exists. What failed is tried again
/// when it is asked for again. Errors: kUnimplemented if there is no such module, it is another
/// build's or cannot be loaded, or there is no driver for it or one that is too old.
class Devices {
 public:
  explicit Devices(std::vector<std::filesystem::path> paths) : paths_(std::move(paths)) {}

  Result<std::vector<DeviceInfo>> list();
  /// The same one for all who ask. Errors begin with "cuda:<index>: ". Further ones: kNotFound if
  /// there is no device of this number, kUnimplemented if it is too old, kUnavailable if the driver
  /// refuses it.
  Result<std::shared_ptr<Device>> open(size_t index);

 private:
  Status load();
  Status check(size_t index);
  Status open_new(size_t index);

  const std::vector<std::filesystem::path> paths_;
  std::mutex mutex_;
  const Module* module_ = nullptr;  // null: not loaded yet. Never unloaded
  std::unordered_map<size_t, std::shared_ptr<Device>> open_;
};

/// Those of this process.
Devices& devices();

}  // namespace pregate::compute::cuda
