// Row memory that other threads use too, as what comes from and goes to other devices does.
#pragma once

#include <cstddef>
#include <memory>

#include "base/result.h"

namespace pregate::compute {

/// From Backend::shared_rows(), which it may outlive. Thread-safe. Errors of all calls:
/// kUnavailable, the device is lost.
class SharedRows {
 public:
  virtual ~SharedRows() = default;

  /// Aligned to 64 bytes. Operations of the back end take addresses in it as those of any row
  /// memory; but what is repeated (Unattended::repeat()) may not refer to it.
  ///
  /// Any thread may drop it, also when the back end is gone. Who does has waited for all that was
  /// begun with it, wherever that was: somebody else is given it at once. Error:
  /// kResourceExhausted.
  virtual Result<std::shared_ptr<std::byte[]>> allocate(size_t bytes) = 0;

  /// To host memory, and from it. Done when they return, and not in order with what the back end
  /// does: what it began with these rows is waited for before, by Backend::wait().
  virtual Status read(void* to, const void* rows, size_t bytes) = 0;
  virtual Status write(void* rows, const void* from, size_t bytes) = 0;
};

}  // namespace pregate::compute
