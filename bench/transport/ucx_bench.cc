// The UCX transport against the least that UCX needs: rows of 2048 numbers go there in bf16 and
// come back in f32, as a dispatch and its combine. Both by turns in one run, because other work on
// the machine changes from minute to minute.
//   ucx_bench [ROUNDS]
#include <semaphore>
#include <thread>
#include <vector>

#include "base/check.h"
#include "bench/transport/raw_echo.h"
#include "transport/ucx/ucx.h"

namespace pregate::transport {
namespace {

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

}  // namespace
}  // namespace pregate::transport

int main(int argc, char** argv) {
  return pregate::transport::main_of_comparison<pregate::transport::OurEcho>(argc, argv);
}
