#include "coordinator/api/http_connection.h"

#include <array>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/write.hpp>
#include <poll.h>

#include "base/clock.h"

namespace pregate::coordinator {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr size_t kReadBytes = 16 << 10;
/// How often we look for the end of a peer that has sent its next request already, so that its
/// socket stays readable and cannot wake us by closing.
constexpr std::chrono::milliseconds kPipelinedPeerCheck{50};
/// How long a peer whose request we refused may go on sending before we close: closing with unread
/// bytes makes the kernel send a reset, which can destroy the answer on its way.
constexpr std::chrono::milliseconds kLinger{1000};
constexpr size_t kLingerBytes = 64 << 20;

bool peer_has_closed(tcp::socket& socket) {
  pollfd descriptor{socket.native_handle(), POLLRDHUP, 0};
  return ::poll(&descriptor, 1, 0) > 0 &&
         (descriptor.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/// Methods as metric labels: a fixed set, whatever a peer may send.
std::string_view method_label(std::string_view method) {
  for (const std::string_view known :
       {"GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"}) {
    if (method == known) return known;
  }
  return "other";
}

/// As nginx logs a peer that left before its answer was complete.
constexpr int kPeerLeft = 499;

}  // namespace

HttpConnection::HttpConnection(tcp::socket socket, HttpServerState& server)
    : socket_(std::move(socket)),
      server_(server),
      deadline_(socket_.get_executor()),
      wake_(socket_.get_executor()) {
  server_.connections.insert(this);
}

HttpConnection::~HttpConnection() {
  server_.connections.erase(this);
  if (server_.connections.empty() && server_.on_last_connection_closed) {
    server_.on_last_connection_closed();
  }
}

// In co_await expressions arguments are named variables: g++ 12 destroys braced temporaries twice.
HttpConnection::Task<void> HttpConnection::run() {
  bool open = true;
  while (open && !server_.draining) {
    RequestParser parser(server_.options.request_limits);
    const ReadEnd end = co_await read_request(parser);
    open = end == ReadEnd::kRequest;
    if (open) {
      HttpRequest request = parser.take();
      open = co_await answer(std::move(request));
    } else if (end != ReadEnd::kClosed) {
      const RequestFault timeout{408, "the request did not arrive in time"};
      const RequestFault fault = parser.fault().value_or(timeout);
      co_await refuse(fault);
    }
  }
  boost::system::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

void HttpConnection::drain() {
  if (idle_) abort();
}

void HttpConnection::abort() {
  boost::system::error_code ignored;
  socket_.close(ignored);
  if (exchange_) exchange_->abandon();
  wake_.cancel();
}

HttpConnection::Task<HttpConnection::ReadEnd> HttpConnection::read_request(RequestParser& parser) {
  if (received_.empty() && !co_await wait_for_first_byte()) co_return ReadEnd::kClosed;
  set_deadline(server_.options.read_timeout);
  while (true) {
    received_.erase(0, parser.feed(received_));
    if (parser.done() || parser.fault()) break;
    if (parser.wants_continue()) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      co_await asio::async_write(socket_, asio::buffer(kContinue), kAwait);
    }
    if (!co_await read_more()) co_return timed_out_ ? ReadEnd::kTimeout : ReadEnd::kClosed;
  }
  clear_deadline();
  co_return parser.fault() ? ReadEnd::kFault : ReadEnd::kRequest;
}

/// Holds no buffer while it waits: most connections are idle most of the time.
HttpConnection::Task<bool> HttpConnection::wait_for_first_byte() {
  set_deadline(server_.options.idle_timeout);
  idle_ = true;
  const auto [ec] = co_await socket_.async_wait(tcp::socket::wait_read, kAwait);
  idle_ = false;
  clear_deadline();
  co_return !ec;
}

HttpConnection::Task<bool> HttpConnection::read_more() {
  std::array<char, kReadBytes> buffer;
  const auto [ec, num_bytes] = co_await socket_.async_read_some(asio::buffer(buffer), kAwait);
  if (!ec) received_.append(buffer.data(), num_bytes);
  co_return !ec;
}

HttpConnection::ExchangePtr HttpConnection::begin_exchange(HttpRequest request) {
  auto wake = [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    // A peer that is gone or too slow may hold up a write for ever.
    if (self->exchange_ && self->exchange_->abandoned()) self->abort();
    self->wake_.cancel();
  };
  auto exchange =
      std::make_shared<ConnectionExchange>(std::move(request), server_.options, std::move(wake));
  if (server_.draining) exchange->forbid_keep_alive();
  exchange_ = exchange;
  asio::co_spawn(
      socket_.get_executor(),
      [self = shared_from_this(), exchange] { return self->watch_peer(exchange); }, asio::detached);
  return exchange;
}

/// True if the connection can take another request.
HttpConnection::Task<bool> HttpConnection::answer(HttpRequest request) {
  const std::string_view method = method_label(request.method);
  const TimePoint begin = system_clock().now();
  const ExchangePtr exchange = begin_exchange(std::move(request));
  server_.handler(exchange);
  co_await send_until_end(exchange);
  exchange_.reset();
  boost::system::error_code ignored;
  socket_.cancel(ignored);  // ends watch_peer
  if (server_.probe != nullptr) {
    const int status = exchange->abandoned() ? kPeerLeft : exchange->status();
    server_.probe->request_finished(exchange->route(), method, status,
                                    system_clock().now() - begin);
  }
  co_return !exchange->abandoned() && exchange->keep_alive();
}

HttpConnection::Task<void> HttpConnection::send_until_end(ExchangePtr exchange) {
  while (!exchange->abandoned()) {
    const bool last = exchange->ended();
    const std::string bytes = exchange->take_unsent();
    if (!bytes.empty()) {
      if (!co_await write_all(bytes)) exchange->abandon();
    } else if (last) {
      co_return;
    } else {
      wake_.expires_at(std::chrono::steady_clock::time_point::max());
      co_await wake_.async_wait(kAwait);
    }
  }
}

/// Notices at once when the peer leaves while its answer is being made.
HttpConnection::Task<void> HttpConnection::watch_peer(ExchangePtr exchange) {
  asio::steady_timer pause(socket_.get_executor());
  while (exchange_ == exchange && !exchange->ended()) {
    const auto [ec] = co_await socket_.async_wait(tcp::socket::wait_read, kAwait);
    if (exchange_ != exchange || exchange->ended()) co_return;
    if (ec || peer_has_closed(socket_)) {
      exchange->abandon();
      co_return;
    }
    pause.expires_after(kPipelinedPeerCheck);
    co_await pause.async_wait(kAwait);
  }
}

HttpConnection::Task<bool> HttpConnection::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    set_deadline(server_.options.write_timeout);
    const auto [ec, num_bytes] = co_await socket_.async_write_some(asio::buffer(bytes), kAwait);
    clear_deadline();
    if (ec) co_return false;
    bytes.remove_prefix(num_bytes);
  }
  co_return true;
}

HttpConnection::Task<void> HttpConnection::refuse(RequestFault fault) {
  const HttpResponse response = server_.options.describe_fault(fault);
  const std::string bytes = serialize_head({response, BodyFraming::kLength, false}) + response.body;
  if (server_.probe != nullptr) {
    server_.probe->request_finished("none", "other", response.status, Duration::zero());
  }
  if (co_await write_all(bytes)) co_await linger();
}

HttpConnection::Task<void> HttpConnection::linger() {
  boost::system::error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  set_deadline(kLinger);
  for (size_t num_bytes = 0; num_bytes < kLingerBytes; num_bytes += received_.size()) {
    received_.clear();
    if (!co_await read_more()) break;
  }
  clear_deadline();
}

void HttpConnection::set_deadline(Duration timeout) {
  timed_out_ = false;
  deadline_.expires_after(timeout);
  deadline_.async_wait([weak = weak_from_this(), count = ++deadline_count_](const auto& ec) {
    const auto self = weak.lock();
    if (ec || !self || self->deadline_count_ != count) return;
    self->timed_out_ = true;
    boost::system::error_code ignored;
    self->socket_.cancel(ignored);
  });
}

void HttpConnection::clear_deadline() {
  ++deadline_count_;
  deadline_.cancel();
}

}  // namespace pregate::coordinator
