// One client connection: reads requests one after the other and writes their answers.
#pragma once

#include <memory>
#include <unordered_set>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "coordinator/api/http_exchange.h"
#include "coordinator/api/http_server.h"

namespace pregate::coordinator {

class HttpConnection;

/// Faults come as an error code, not as an exception.
inline constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

/// What the connections of a server share. I/O thread only.
struct HttpServerState {
  HttpServerOptions options;
  HttpServer::Handler handler;
  monitoring::HttpProbe* probe = nullptr;
  bool draining = false;
  std::unordered_set<HttpConnection*> connections;
  std::function<void()> on_last_connection_closed;
};

/// I/O thread only.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  template <typename T>
  using Task = boost::asio::awaitable<T>;

  HttpConnection(boost::asio::ip::tcp::socket socket, HttpServerState& server);
  ~HttpConnection();

  /// The connection's life; spawn it once.
  Task<void> run();
  /// Closes now if no request is under way, else after its answer.
  void drain();
  /// Closes now.
  void abort();

 private:
  enum class ReadEnd { kRequest, kFault, kTimeout, kClosed };
  using ExchangePtr = std::shared_ptr<ConnectionExchange>;

  Task<ReadEnd> read_request(RequestParser& parser);
  Task<bool> wait_for_first_byte();
  Task<bool> read_more();
  Task<bool> answer(HttpRequest request);
  Task<void> send_until_end(ExchangePtr exchange);
  Task<void> watch_peer(ExchangePtr exchange);
  Task<bool> write_all(std::string_view bytes);
  Task<void> refuse(RequestFault fault);
  Task<void> linger();

  ExchangePtr begin_exchange(HttpRequest request);
  void set_deadline(Duration timeout);
  void clear_deadline();

  boost::asio::ip::tcp::socket socket_;
  HttpServerState& server_;
  std::string received_;  // and not yet parsed
  ExchangePtr exchange_;  // of the request being answered, else null
  bool idle_ = false;     // waiting for a request's first byte

  boost::asio::steady_timer deadline_;
  uint64_t deadline_count_ = 0;  // tells a stale expiry, already queued when it was cleared
  bool timed_out_ = false;
  boost::asio::steady_timer wake_;  // cancelled when the exchange has something to send
};

}  // namespace pregate::coordinator
