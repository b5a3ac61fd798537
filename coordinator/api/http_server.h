// A small HTTP/1.1 server: one I/O thread, many connections, every wait with a deadline and every
// buffer with a bound. Knows nothing of models.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "coordinator/api/http_message.h"
#include "coordinator/api/request_parser.h"
#include "monitoring/metrics/http_probe.h"

namespace pregate::coordinator {

/// One request and the way to answer it: respond() once, or begin_stream(), write() any number of
/// times, end_stream(). I/O thread only. When the peer is gone, what is sent is dropped.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;

  virtual void respond(HttpResponse response) = 0;
  virtual void begin_stream(HttpResponse head) = 0;
  virtual void write(std::string bytes) = 0;
  /// `complete` false: what was sent is not the whole answer; the connection closes behind it.
  virtual void end_stream(bool complete) = 0;

  /// Called at most once, possibly from within write(), when the answer can no longer be delivered:
  /// the peer has left (or closed its sending side), reads too slowly, or the server stops. Never
  /// after the answer's end.
  virtual void on_abandoned(std::function<void()> callback) = 0;
  /// The name this request has in the metrics; one of a small fixed set.
  virtual void set_route(std::string_view route) = 0;
};

/// The answer to what is not even a request.
HttpResponse plain_fault(const RequestFault& fault);

struct HttpServerOptions {
  std::string address = "0.0.0.0";
  uint16_t port = 8000;  ///< 0: any free one.
  size_t max_connections = 4096;
  RequestLimits request_limits;
  /// Of one answer, written by the handler and not yet taken by the peer. More ends the connection.
  size_t max_unsent_bytes = 1 << 20;
  /// SO_SNDBUF; 0 leaves it to the system.
  size_t socket_send_bytes = 0;

  std::chrono::milliseconds idle_timeout{120'000};  ///< Between requests of a connection.
  std::chrono::milliseconds read_timeout{30'000};   ///< From a request's first byte to its last.
  std::chrono::milliseconds write_timeout{30'000};  ///< Without the peer taking a byte.

  std::vector<std::pair<std::string, std::string>> common_headers;  ///< Of every answer.
  std::function<HttpResponse(const RequestFault&)> describe_fault = plain_fault;
};

/// Runs a task on the I/O thread. Copyable, thread-safe; after the server's end tasks are dropped.
using IoPost = std::function<void(std::function<void()>)>;

class HttpServer {
 public:
  /// Called on the I/O thread; must not block.
  using Handler = std::function<void(std::shared_ptr<HttpExchange>)>;

  /// `probe` may be null; else it must outlive the server.
  HttpServer(HttpServerOptions options, Handler handler, monitoring::HttpProbe* probe);
  /// Stops at once.
  ~HttpServer();

  /// Listens and serves; returns the port. Call once.
  Result<uint16_t> start();
  IoPost io_post() const;

  /// Takes no new connection, closes idle ones, lets running answers end within `deadline`, then
  /// cuts what is left. True if nothing had to be cut. Blocks; not on the I/O thread.
  bool stop(Duration deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace pregate::coordinator
