// The answer of one request between the handler that makes it and the connection that sends it.
#pragma once

#include <functional>
#include <string>

#include "coordinator/api/http_server.h"

namespace pregate::coordinator {

/// I/O thread only. Holds what is to be sent, framed and bounded.
class ConnectionExchange : public HttpExchange {
 public:
  /// `wake`: called whenever there is something new to send or the exchange has ended.
  ConnectionExchange(HttpRequest request, const HttpServerOptions& options,
                     std::function<void()> wake);

  const HttpRequest& request() const override { return request_; }
  void respond(HttpResponse response) override;
  void begin_stream(HttpResponse head) override;
  void write(std::string bytes) override;
  void end_stream(bool complete) override;
  void on_abandoned(std::function<void()> callback) override;
  void set_route(std::string_view route) override { route_ = route; }

  /// What is to be sent next. It counts as unsent until the next call.
  std::string take_unsent();
  /// The handler is done, or the peer is gone.
  bool ended() const { return state_ == State::kEnded || abandoned(); }
  bool abandoned() const { return state_ == State::kAbandoned; }
  /// Nobody will take the answer any more.
  void abandon();

  bool keep_alive() const { return keep_alive_; }
  void forbid_keep_alive() { keep_alive_ = false; }
  /// 0 while none has been chosen.
  int status() const { return status_; }
  const std::string& route() const { return route_; }

 private:
  enum class State { kWaiting, kStreaming, kEnded, kAbandoned };

  void send_head(HttpResponse& response, BodyFraming framing);
  void end();

  const HttpRequest request_;
  const size_t max_unsent_bytes_;
  const std::vector<std::pair<std::string, std::string>> common_headers_;
  const std::function<void()> wake_;
  State state_ = State::kWaiting;
  bool chunked_ = false;
  bool keep_alive_;
  int status_ = 0;
  std::string route_ = "other";
  std::string unsent_;
  size_t taken_bytes_ = 0;
  std::function<void()> on_abandoned_;
};

}  // namespace pregate::coordinator
