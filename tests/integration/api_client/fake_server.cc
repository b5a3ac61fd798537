// The real HTTP API over a service without a model, for trying clients: fake_server [PORT [KEY]].
// Prints "listening on PORT" and runs until SIGTERM or SIGINT.
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "coordinator/api/api_server.h"
#include "monitoring/metrics/registry.h"
#include "tests/integration/api_client/fake_generation.h"

int main(int argc, char** argv) {
  using namespace pregate;
  using namespace pregate::coordinator;

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  testing::FakeTokenizer tokenizer;
  testing::FakeChatTemplate chat_template;
  testing::FakeGeneration generation({});
  monitoring::Registry registry;
  monitoring::HttpProbe probe(registry);

  ApiOptions options;
  options.http.address = "127.0.0.1";
  options.http.port = static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  options.api.served_names = {"fake"};
  if (argc > 2) options.api.api_keys = {argv[2]};
  ApiServer server(options,
                   {.readiness =
                        [] {
                          return Readiness{true, "ready"};
                        },
                    .scrape = [&] { return registry.scrape(); },
                    .version = "fake"},
                   &probe);
  const auto port = server.start();
  if (!port) {
    std::fprintf(stderr, "%s\n", port.error().message.c_str());
    return 1;
  }
  server.serve({generation, tokenizer, &chat_template, 2048, tokenizer.vocab_size()});
  std::printf("listening on %d\n", static_cast<int>(*port));
  std::fflush(stdout);

  int received = 0;
  sigwait(&signals, &received);
  return server.stop(std::chrono::seconds(5)) ? 0 : 1;
}
