// One rank of a scenario: mpi_conformance NAME, driven_NAME for nodes that drive, or nccl_NAME for
// such with lanes for large payloads. Prints "ok NAME rank R" when it holds; run_mpi.sh counts
// these lines, because mpirun's exit status says nothing once a rank has died.
#include <csignal>
#include <cstdio>

#include <unistd.h>

#include "tests/conformance/transport/scenarios.h"
#include "tests/conformance/transport/socket_lanes.h"
#include "transport/mpi/mpi.h"

namespace {

using namespace pregate;
using namespace pregate::transport;

/// Whether the process must end by _exit(). `mode`: "", "driven_" or "nccl_".
Result<bool> run(const Scenario& scenario, const std::string& mode) {
  PREGATE_ASSIGN(auto mpi, make_mpi_transport({.max_in_flight_bytes = scenario.max_in_flight_bytes,
                                               .finalize_timeout = std::chrono::seconds(5)}));
  CountingProbe probe;
  std::unique_ptr<Transport> transport;
  if (mode == "nccl_") {
    transport = make_nccl_transport(*mpi, std::make_shared<SocketLanes>(), probe,
                                    eager_options(scenario.max_in_flight_bytes));
  } else {
    transport = std::move(mpi);
  }
  Node node(
      std::move(transport), [] { ::kill(::getpid(), SIGKILL); }, /*drives=*/!mode.empty());
  const Status result = scenario.run(node);
  if (!result) std::fprintf(stderr, "node %u: %s\n", node.id(), result.error().message.c_str());
  const bool hard_exit = node.stop(!result);
  if (result) std::printf("ok %s%s rank %u\n", mode.c_str(), scenario.name.c_str(), node.id());
  return hard_exit;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  for (const Scenario& scenario : scenarios()) {
    for (const std::string mode : {"", "driven_", "nccl_"}) {
      if (name != mode + scenario.name) continue;
      const auto hard_exit = run(scenario, mode);
      if (!hard_exit) std::fprintf(stderr, "%s\n", hard_exit.error().message.c_str());
      std::fflush(nullptr);
      if (!hard_exit || *hard_exit) ::_exit(hard_exit ? 0 : 1);
      return 0;
    }
  }
  std::fprintf(stderr, "usage: mpi_conformance [driven_|nccl_]SCENARIO\n");
  return 2;
}
