// The UCX transport against the least that UCX needs: rows of 2048 numbers go there in bf16 and
// come back in f32, as a dispatch and its combine. Both by turns in one run, because other work on
// the machine changes from minute to minute.
//   ucx_bench [ROUNDS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <semaphore>
#include <thread>
#include <vector>

#include "base/check.h"
#include "bench/transport/raw_ucx.h"
#include "transport/ucx/ucx.h"

namespace pregate::transport {
namespace {

constexpr size_t kHidden = 2048;
constexpr size_t kMaxRows = 512;
constexpr size_t there_bytes(size_t rows) { return rows * kHidden * 2; }
constexpr size_t back_bytes(size_t rows) { return rows * kHidden * 4; }

/// One process of ours that answers, and one that asks.
class OurEcho {
 public:
  OurEcho() {
    server_ = make_ucx_transport({.listen = "127.0.0.1:0"}).value();
    const std::string address = server_->listen_address();
    client_ = make_ucx_transport({.self = PeerId(1), .addresses = {{PeerId(0), address}}}).value();
    Events server;
    server.receive = [this](PeerId from, std::span<const std::byte> header, Payload payload) {
      const Payload reply(allocate_payload(2 * payload.size()), 2 * payload.size());
      PREGATE_CHECK(server_->send(from, header, reply, {}).has_value());
    };
    server_->start({1, 1, {}}, server);
    Events client;
    client.peer_up = [this](PeerId, const Hello&) { arrived_.release(); };
    client.receive = [this](PeerId, std::span<const std::byte>, Payload) { arrived_.release(); };
    client_->start({1, 2, {}}, client);
    client_->connect(PeerId(0));
    arrived_.acquire();
  }
  ~OurEcho() {
    client_->stop({});
    server_->stop({});
  }

  void echo(size_t rows) {
    const Payload payload(allocate_payload(there_bytes(rows)), there_bytes(rows));
    PREGATE_CHECK(client_->send(PeerId(0), header_, payload, {}).has_value());
    arrived_.acquire();
  }

 private:
  std::unique_ptr<UcxTransport> server_, client_;
  std::counting_semaphore<> arrived_{0};
  const std::vector<std::byte> header_ = std::vector<std::byte>(64);
};

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
void measure(std::vector<double>& micros, size_t count, const Echo& echo) {
  for (size_t i = 0; i < count; ++i) {
    const auto began = std::chrono::steady_clock::now();
    echo();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    if (i > 0) micros.push_back(took.count());  // the first one warms up
  }
}

double quantile(std::vector<double>& values, double q) {
  const auto at = values.begin() + static_cast<ptrdiff_t>(q * static_cast<double>(values.size()));
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

void compare(size_t rows, size_t rounds) {
  OurEcho ours;
  RawEcho raw;
  std::vector<double> our_micros, raw_micros;
  const size_t count = rows >= kMaxRows ? 20 : 100;
  for (size_t round = 0; round < rounds; ++round) {
    measure(our_micros, count, [&] { ours.echo(rows); });
    raw.serve(rows, [&] { measure(raw_micros, count, [&] { raw.echo(rows); }); });
  }
  const double our_median = quantile(our_micros, 0.5), raw_median = quantile(raw_micros, 0.5);
  std::printf(
      "%4zu rows: ours %8.0f us (p10 %.0f, p90 %.0f), raw UCX %8.0f us (p10 %.0f, p90 %.0f),"
      " ratio %.2f\n",
      rows, our_median, quantile(our_micros, 0.1), quantile(our_micros, 0.9), raw_median,
      quantile(raw_micros, 0.1), quantile(raw_micros, 0.9), our_median / raw_median);
}

}  // namespace
}  // namespace pregate::transport

int main(int argc, char** argv) {
  const size_t rounds = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 20;
  for (const size_t rows : {1, 32, 512}) pregate::transport::compare(rows, rounds);
}
