#include "transport/nccl/cuda/calls.h"

#include <thread>

namespace pregate::transport {
namespace {

constexpr int kSpins = 2000;
constexpr auto kNap = std::chrono::microseconds(50);

}  // namespace

Status check(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  return fail(ErrorCode::kUnavailable, "{}: {}", what, cudaGetErrorString(error));
}

Status check(ncclResult_t result, ncclComm_t comm, std::string_view what) {
  if (result == ncclSuccess) return {};
  const char* const details = ncclGetLastError(comm);
  const bool is_known = details != nullptr && *details != '\0';
  return fail(ErrorCode::kUnavailable, "NCCL, {}: {}{}{}", what, ncclGetErrorString(result),
              is_known ? ": " : "", is_known ? details : "");
}

Status Patience::check(std::string_view what) const {
  if (cancelled) return fail(ErrorCode::kCancelled, "{}: given up", what);
  if (TimePoint::clock::now() < until) return {};
  return fail(ErrorCode::kDeadlineExceeded, "{}: not done in time", what);
}

void Pause::wait() {
  if (++num_looks_ < kSpins) return std::this_thread::yield();
  std::this_thread::sleep_for(kNap);
}

}  // namespace pregate::transport
