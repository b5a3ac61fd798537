// Rows of 2048 numbers go there in bf16 and come back in f32, by some path of ours and by the least
// that UCX needs: both by turns in one run, because other work on the machine changes from minute
// to minute.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "bench/transport/raw_ucx.h"

namespace pregate::transport {

inline constexpr size_t kHidden = 2048;
inline constexpr size_t kMaxRows = 512;
constexpr size_t there_bytes(size_t rows) { return rows * kHidden * 2; }
constexpr size_t back_bytes(size_t rows) { return rows * kHidden * 4; }

class RawEcho {
 public:
  RawEcho() : server_(back_bytes(kMaxRows)), client_(back_bytes(kMaxRows)) {
    server_.connect_to(client_);
    client_.connect_to(server_);
  }

  /// Calls `asks` while the other end answers with `rows`.
  template <typename Asks>
  void serve(size_t rows, const Asks& asks) {
    std::atomic<bool> active = true;
    std::thread thread([&] {
      while (server_.receive(active)) server_.send(back_bytes(rows));
    });
    asks();
    active = false;
    thread.join();
  }

  void echo(size_t rows) {
    const std::atomic<bool> always = true;
    client_.send(there_bytes(rows));
    client_.receive(always);
  }

 private:
  RawUcx server_, client_;
};

template <typename Echo>
void measure(std::vector<double>& micros, size_t rows, Echo& path) {
  const size_t count = rows >= kMaxRows ? 20 : 100;
  for (size_t i = 0; i < count; ++i) {
    const auto began = std::chrono::steady_clock::now();
    path.echo(rows);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    if (i > 0) micros.push_back(took.count());  // the first one warms up
  }
}

inline double quantile(std::vector<double>& values, double q) {
  const auto at = values.begin() + static_cast<ptrdiff_t>(q * static_cast<double>(values.size()));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// `Ours` has echo(rows), of kMaxRows at most.
template <typename Ours>
void compare_with_raw(size_t rows, size_t rounds) {
  Ours ours;
  RawEcho raw;
  std::vector<double> our_micros, raw_micros;
  for (size_t round = 0; round < rounds; ++round) {
    measure(our_micros, rows, ours);
    raw.serve(rows, [&] { measure(raw_micros, rows, raw); });
  }
  const double our_median = quantile(our_micros, 0.5), raw_median = quantile(raw_micros, 0.5);
  std::printf(
      "%4zu rows: ours %8.0f us (p10 %.0f, p90 %.0f), raw UCX %8.0f us (p10 %.0f, p90 %.0f),"
      " ratio %.2f\n",
      rows, our_median, quantile(our_micros, 0.1), quantile(our_micros, 0.9), raw_median,
      quantile(raw_micros, 0.1), quantile(raw_micros, 0.9), our_median / raw_median);
}

/// The program: its only argument is the number of rounds.
template <typename Ours>
int main_of_comparison(int argc, char** argv) {
  const size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 20;
  for (const size_t rows : {1, 32, 512}) compare_with_raw<Ours>(rows, rounds);
  return 0;
}

}  // namespace pregate::transport
