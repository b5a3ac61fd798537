#include "coordinator/api/http_server.h"

#include <condition_variable>
#include <mutex>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <sys/resource.h>

#include "base/log.h"
#include "coordinator/api/http_connection.h"

namespace pregate::coordinator {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

/// After a failed accept (no file descriptor free, say) until the next try.
constexpr std::chrono::milliseconds kAcceptPause{50};
/// How long cut connections get to end by themselves.
constexpr std::chrono::seconds kCutGrace{2};

/// Each connection needs a descriptor, and the usual soft limit is 1,024.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

/// What IoPost keeps a weak hold of. The state outlives the io_context, whose end destroys
/// coroutines that refer to it.
struct IoLoop {
  HttpServerState state;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};

  Result<uint16_t> listen();
  asio::awaitable<void> accept_loop();
  asio::awaitable<void> turn_away(tcp::socket socket);
  void serve(tcp::socket socket);
  void begin_drain();
};

struct HttpServer::Impl {
  std::shared_ptr<IoLoop> loop = std::make_shared<IoLoop>();
  std::jthread thread;

  std::mutex mutex;
  std::condition_variable all_closed_changed;
  bool all_closed = false;  // guarded by mutex

  bool wait_all_closed(Duration timeout) {
    std::unique_lock lock(mutex);
    return all_closed_changed.wait_for(lock, timeout, [this] { return all_closed; });
  }
};

Result<uint16_t> IoLoop::listen() {
  const HttpServerOptions& options = state.options;
  boost::system::error_code ec;
  const auto address = asio::ip::make_address(options.address, ec);
  if (ec) {
    return fail(ErrorCode::kInvalidArgument, "--host {}: expected an IP address such as 127.0.0.1",
                options.address);
  }
  const tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec && options.socket_send_bytes > 0) {
    // Before listen(), so that accepted sockets inherit it.
    acceptor.set_option(
        asio::socket_base::send_buffer_size(static_cast<int>(options.socket_send_bytes)), ec);
  }
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) {
    return fail(ErrorCode::kUnavailable, "cannot listen on {} port {}: {}", options.address,
                options.port, ec.message());
  }
  return acceptor.local_endpoint().port();
}

asio::awaitable<void> IoLoop::accept_loop() {
  asio::steady_timer pause(io);
  while (acceptor.is_open()) {
    auto [ec, socket] = co_await acceptor.async_accept(kAwait);
    if (!ec) {
      serve(std::move(socket));
    } else if (ec != asio::error::operation_aborted) {
      spdlog::warn("HTTP server: cannot accept a connection: {}", ec.message());
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(kAwait);
    }
  }
}

void IoLoop::serve(tcp::socket socket) {
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  const auto report = [](std::exception_ptr failure) {
    try {
      if (failure) std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      spdlog::error("HTTP server: a connection failed: {}", e.what());
    }
  };
  if (state.connections.size() >= state.options.max_connections) {
    asio::co_spawn(io, turn_away(std::move(socket)), report);
    return;
  }
  auto connection = std::make_shared<HttpConnection>(std::move(socket), state);
  asio::co_spawn(
      io, [connection] { return connection->run(); }, report);
}

/// One small write, which a fresh socket's buffer always takes.
asio::awaitable<void> IoLoop::turn_away(tcp::socket socket) {
  HttpResponse response = state.options.describe_fault({503, "too many connections"});
  response.headers.emplace_back("Retry-After", "1");
  const std::string answer =
      serialize_head({response, BodyFraming::kLength, false}) + response.body;
  co_await asio::async_write(socket, asio::buffer(answer), kAwait);
}

void IoLoop::begin_drain() {
  boost::system::error_code ignored;
  acceptor.close(ignored);
  state.draining = true;
  const auto connections = state.connections;  // a connection that closes leaves the set
  for (HttpConnection* connection : connections) connection->drain();
  if (state.connections.empty()) state.on_last_connection_closed();
}

HttpServer::HttpServer(HttpServerOptions options, Handler handler, monitoring::HttpProbe* probe)
    : impl_(std::make_unique<Impl>()) {
  HttpServerState& state = impl_->loop->state;
  state.options = std::move(options);
  state.handler = std::move(handler);
  state.probe = probe;
}

HttpServer::~HttpServer() { stop(Duration::zero()); }

Result<uint16_t> HttpServer::start() {
  raise_descriptor_limit();
  PREGATE_ASSIGN(const uint16_t port, impl_->loop->listen());
  asio::co_spawn(impl_->loop->io, impl_->loop->accept_loop(), asio::detached);
  impl_->thread = std::jthread([loop = impl_->loop] {
    const auto guard = asio::make_work_guard(loop->io);
    loop->io.run();
  });
  return port;
}

IoPost HttpServer::io_post() const {
  return [weak = std::weak_ptr(impl_->loop)](std::function<void()> task) {
    if (const auto loop = weak.lock()) asio::post(loop->io, std::move(task));
  };
}

bool HttpServer::stop(Duration deadline) {
  if (!impl_->thread.joinable()) return true;
  IoLoop& loop = *impl_->loop;
  asio::post(loop.io, [this, &loop] {
    loop.state.on_last_connection_closed = [this, &loop] {
      if (!loop.state.draining) return;
      const std::lock_guard lock(impl_->mutex);
      impl_->all_closed = true;
      impl_->all_closed_changed.notify_all();
    };
    loop.begin_drain();
  });
  const bool drained = impl_->wait_all_closed(deadline);
  if (!drained) {
    asio::post(loop.io, [&loop] {
      const auto connections = loop.state.connections;
      for (HttpConnection* connection : connections) connection->abort();
    });
    impl_->wait_all_closed(kCutGrace);
  }
  loop.io.stop();
  impl_->thread.join();
  loop.state.on_last_connection_closed = nullptr;
  return drained;
}

}  // namespace pregate::coordinator
