// CHECK is for our own bugs only; what the world does wrong is a Result.
#pragma once

namespace pregate {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace pregate

#define PREGATE_CHECK(condition) \
  (static_cast<bool>(condition) ? void(0) : ::pregate::check_failed(#condition, __FILE__, __LINE__))
