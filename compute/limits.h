// What this machine could do at best, measured, so that a speed can be quoted as a fraction of it.
#pragma once

#include <string>

#include "base/result.h"
#include "base/thread_pool.h"

namespace pregate::compute {

/// Of all threads of a team together, or of a device. Operations count multiplications and
/// additions; 0: not measured.
struct MachineLimits {
  double read_bytes_per_s = 0.0;  ///< From memory.
  double int8_ops_per_s = 0.0;    ///< Of the vector instructions the back end's q8 kernels use.
  double bf16_flops = 0.0;        ///< The same for bf16.
  double f32_flops = 0.0;
};

/// Takes about half a second and 256 MiB. `backend` as for make_backend(), with its errors; the
/// reference counts as "cpu/generic". Of a CUDA device, reading and bf16 are measured, with 2 GiB
/// of its memory. Take it in the same run as what it is compared with: on a shared machine it
/// moves.
Result<MachineLimits> measure_limits(const std::string& backend, ThreadPool& threads);

}  // namespace pregate::compute
