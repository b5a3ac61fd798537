// What people call a CUDA device: "cuda:1"; "cuda" is the first one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pregate {

/// "cuda:1"
std::string cuda_name(size_t device);
/// Whether it is meant to be such a name.
bool is_cuda_name(std::string_view name);
/// Error: kInvalidArgument, which does not repeat the name.
Result<size_t> parse_cuda_name(std::string_view name);

}  // namespace pregate
