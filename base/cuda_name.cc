#include "base/cuda_name.h"

#include <charconv>

namespace pregate {
namespace {

constexpr std::string_view kFirst = "cuda";
constexpr std::string_view kPrefix = "cuda:";

}  // namespace

std::string cuda_name(size_t device) { return fmt::format("{}{}", kPrefix, device); }

bool is_cuda_name(std::string_view name) { return name == kFirst || name.starts_with(kPrefix); }

Result<size_t> parse_cuda_name(std::string_view name) {
  if (name == kFirst) return size_t{0};
  if (name.starts_with(kPrefix)) {
    const std::string_view digits = name.substr(kPrefix.size());
    const char* const last = digits.data() + digits.size();
    size_t device = 0;
    const auto [end, error] = std::from_chars(digits.data(), last, device);
    if (error == std::errc() && end == last) return device;
  }
  return fail(ErrorCode::kInvalidArgument, "expected a CUDA device such as cuda:0");
}

}  // namespace pregate
