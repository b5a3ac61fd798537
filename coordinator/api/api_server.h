// The coordinator's HTTP API as one object.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "coordinator/api/api.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/serving_model.h"
#include "coordinator/api/status_routes.h"
#include "monitoring/metrics/http_probe.h"

namespace pregate::coordinator {

struct ApiOptions {
  HttpServerOptions http;
  ApiConfig api;
  size_t tokenizer_threads = 1;  ///< Read requests, render templates, tokenise.
};

/// Listens from start() on, so that /health tells how far loading is; answers requests for the
/// model once serve() was called.
///
/// Threads: one for I/O, `tokenizer_threads`, and the caller's, which may call any method. The
/// GenerationService may call its listeners even after stop(); nothing happens then.
class ApiServer {
 public:
  /// `probe` may be null; else it must outlive the server. The hooks are called on the I/O thread.
  ApiServer(ApiOptions options, StatusHooks hooks, monitoring::HttpProbe* probe);
  /// Stops at once.
  ~ApiServer();

  /// Returns the port, for options that leave it to the system.
  Result<uint16_t> start();
  void serve(const ServingModel& model);
  /// Refuses new requests, lets running ones end within `deadline`, cancels the rest. True if
  /// nothing had to be cancelled. Blocks.
  bool stop(Duration deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// For processes without a model to serve: /health, /version and /metrics only.
class StatusServer {
 public:
  StatusServer(HttpServerOptions options, StatusHooks hooks, monitoring::HttpProbe* probe);

  Result<uint16_t> start() { return server_.start(); }
  bool stop(Duration deadline) { return server_.stop(deadline); }

 private:
  HttpServer server_;
};

}  // namespace pregate::coordinator
