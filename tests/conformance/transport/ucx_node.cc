// A process of a UCX test:
//   ucx_node scenario NAME ID DIR   node ID of a scenario; DIR tells the nodes' addresses
//   ucx_node driven NAME ID DIR     the same, by a node that drives its transport
//   ucx_node nccl NAME ID DIR       as driven, with lanes for large payloads
//   ucx_node listen ADDRESS         listens and echoes until it is killed
//   ucx_node dial ADDRESS           dials, again and again, and echoes until it is killed
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include <unistd.h>

#include "base/random.h"
#include "tests/conformance/transport/mesh.h"
#include "tests/conformance/transport/scenarios.h"
#include "tests/conformance/transport/socket_lanes.h"
#include "transport/nccl/nccl.h"
#include "transport/ucx/ucx.h"

namespace pregate::transport {
namespace {

constexpr auto kRedial = std::chrono::milliseconds(20);

std::string read_address(const std::filesystem::path& file) {
  for (std::string address;;) {
    if (std::ifstream(file) >> address) return address;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void write_address(const std::filesystem::path& file, const std::string& address) {
  const std::filesystem::path partial = file.string() + ".partial";
  std::ofstream(partial) << address << "\n";
  std::filesystem::rename(partial, file);
}

Status run_scenario(const Scenario& scenario, uint32_t id, const std::filesystem::path& folder,
                    const std::string& mode) {
  UcxOptions options{.self = PeerId(id), .listen = "127.0.0.1:0"};
  options.max_in_flight_bytes = scenario.max_in_flight_bytes;
  for (uint32_t lower = 0; lower < id; ++lower) {
    options.addresses[PeerId(lower)] = read_address(folder / std::to_string(lower));
  }
  PREGATE_ASSIGN(auto ucx, make_ucx_transport(options));
  write_address(folder / std::to_string(id), ucx->listen_address());
  CountingProbe probe;
  std::unique_ptr<Transport> carrier = std::move(ucx), transport;
  if (mode == "nccl") {
    transport = make_nccl_transport(*carrier, std::make_shared<SocketLanes>(), probe,
                                    eager_options(scenario.max_in_flight_bytes));
  } else {
    transport = std::move(carrier);
  }
  Node node(
      std::make_unique<Mesh>(std::move(transport)), [] { ::kill(::getpid(), SIGKILL); },
      /*drives=*/mode != "scenario");
  return scenario.run(node);
}

Status run_scenario(const std::string& name, uint32_t id, const std::string& folder,
                    const std::string& mode) {
  for (const Scenario& scenario : scenarios()) {
    if (scenario.name == name) return run_scenario(scenario, id, folder, mode);
  }
  return fail(ErrorCode::kNotFound, "no scenario {}", name);
}

Status echo_for_ever(const UcxOptions& options) {
  PREGATE_ASSIGN(const auto ucx, make_ucx_transport(options));
  Events events;
  events.receive = [&](PeerId from, std::span<const std::byte> header, Payload payload) {
    (void)ucx->send(from, header, std::move(payload), {});
  };
  ucx->start({1, seed_from_system(), {}}, events);
  for (;;) {
    for (const auto& [peer, address] : options.addresses) ucx->connect(peer);
    std::this_thread::sleep_for(kRedial);
  }
}

Status run(const std::vector<std::string>& arguments) {
  const std::string mode = arguments.empty() ? "" : arguments[0];
  if ((mode == "scenario" || mode == "driven" || mode == "nccl") && arguments.size() == 4) {
    return run_scenario(arguments[1], static_cast<uint32_t>(std::stoul(arguments[2])), arguments[3],
                        mode);
  }
  if (mode == "listen" && arguments.size() == 2) return echo_for_ever({.listen = arguments[1]});
  if (mode == "dial" && arguments.size() == 2) {
    return echo_for_ever({.self = PeerId(1), .addresses = {{PeerId(0), arguments[1]}}});
  }
  return fail(ErrorCode::kInvalidArgument, "usage: ucx_node scenario|driven|nccl|listen|dial ...");
}

}  // namespace
}  // namespace pregate::transport

int main(int argc, char** argv) {
  const pregate::Status result = pregate::transport::run({argv + 1, argv + argc});
  if (!result) std::fprintf(stderr, "ucx_node: %s\n", result.error().message.c_str());
  return result ? 0 : 1;
}
