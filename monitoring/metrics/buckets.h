// Histogram edges. Where vLLM has the same histogram we keep its edges, so that its dashboards and
// alerts work unchanged; we only add finer ones where ours would all fall into the first bucket.
#pragma once

#include <vector>

namespace pregate::monitoring {

using Buckets = std::vector<double>;

/// Seconds until the first token.
inline Buckets first_token_buckets() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,  0.75,
          1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80., 160., 640., 2560.};
}

/// Seconds between two tokens of one request. vLLM begins at 10 ms; small models decode faster.
inline Buckets inter_token_buckets() {
  return {0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.075, 0.1,  0.15, 0.2,
          0.3,   0.4,   0.5,   0.75,  1.0,    2.5,  5.0,   7.5,  10.0,  20.0, 40.0, 80.0};
}

/// Seconds of a whole request or of one of its phases.
inline Buckets request_buckets() {
  return {0.3,  0.5,  0.8,  1.0,  1.5,  2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
          30.0, 40.0, 50.0, 60.0, 120., 240.0, 480.0, 960.0, 1920.0, 7680.0};
}

/// Seconds of one HTTP exchange: health checks take microseconds, streams minutes.
inline Buckets http_buckets() {
  return {0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0};
}

/// Seconds of one dispatch: one row in one machine takes about 10 us, 8 MiB over TCP about 20 ms.
inline Buckets dispatch_buckets() {
  return {1e-5,  2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005,
          0.010, 0.02, 0.05, 0.1,  0.2,  0.5,  1.0,   2.0,   5.0};
}

/// Seconds that sequences waited for an expert: one comes from a page cache in milliseconds, from a
/// network file system in tens of seconds.
inline Buckets expert_wait_buckets() {
  return {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0};
}

/// Seconds that a batch stood still for experts: a small one comes from a page cache in 100 us, a
/// group of large ones from a disk in seconds.
inline Buckets cache_wait_buckets() {
  return {1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05,
          0.1,  0.2,  0.5,  1.0,   2.0,   5.0,   10.0, 30.0};
}

/// Seconds of one rebalance, which loads under a rate limit.
inline Buckets rebalance_buckets() {
  return {0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0};
}

/// 1-2-5 series up to and including the last step not above `limit`.
inline Buckets count_buckets(double limit) {
  Buckets edges;
  for (double decade = 1.0; decade <= limit; decade *= 10.0) {
    for (const double step : {1.0, 2.0, 5.0}) {
      if (decade * step <= limit) edges.push_back(decade * step);
    }
  }
  return edges;
}

/// Rows of one step, one dispatch: powers of two.
inline Buckets row_buckets() {
  return {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
}

/// Distinct experts of a layer: exact where there are few, as with pre-gating routers.
inline Buckets expert_count_buckets() {
  return {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256};
}

/// "n" of a request.
inline Buckets choice_buckets() { return {1, 2, 5, 10, 20}; }

}  // namespace pregate::monitoring
