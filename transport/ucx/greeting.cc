#include <algorithm>

#include "transport/ucx/transport_impl.h"

namespace pregate::transport {
namespace {

/// Rarely is one accepted; a flood must not keep the peers waiting.
constexpr int kMaxAcceptsAtOnce = 16;

}  // namespace

void UcxTransportImpl::attend_doors(const std::vector<uint64_t>& keys) {
  for (const uint64_t key : keys) {
    if (key == kListenerKey) accept_connections();
    if (Connection* const connection = find(key); connection != nullptr) attend_door(*connection);
  }
  drop_late_connections();
}

void UcxTransportImpl::attend_door(Connection& connection) {
  if (connection.step == Step::kDial) finish_dial(connection);
  while (advance(connection)) {
  }
}

void UcxTransportImpl::accept_connections() {
  for (int i = 0; i < kMaxAcceptsAtOnce && listener_.is_open(); ++i) {
    Fd socket = accept_from(listener_);
    if (!socket.is_open()) return;
    if (num_ungreeted() >= options_.max_ungreeted) {
      count_refused({ErrorCode::kResourceExhausted, "too many connections that say nothing"});
      continue;
    }
    Connection& connection = add_connection();
    mailbox_->own.add(socket.get(), connection.link.token(), Poller::Until::kReadable);
    connection.door = Door(std::move(socket));
  }
}

size_t UcxTransportImpl::num_ungreeted() const {
  return static_cast<size_t>(std::ranges::count_if(connections_, [](const auto& entry) {
    return entry.second->is_accepted() && entry.second->is_greeting();
  }));
}

void UcxTransportImpl::drop_late_connections() {
  const TimePoint now = system_clock().now();
  for (const auto& [token, connection] : connections_) {
    if (!connection->is_greeting() || now < connection->deadline) continue;
    lose(*connection, {ErrorCode::kDeadlineExceeded,
                       fmt::format("the connection did not come up within {:.1f} s",
                                   to_seconds(options_.connect_timeout))});
  }
}

void UcxTransportImpl::finish_dial(Connection& connection) {
  const Status dialled = finish_dialling(connection.door.socket());
  if (!dialled) return lose(connection, dialled.error());
  mailbox_->own.change(connection.door.socket().get(), connection.link.token(),
                       Poller::Until::kReadable);
  connection.step = Step::kHello;
  write_door(connection, hello_);
}

/// Takes the next step of a greeting; false if it must wait for more bytes.
bool UcxTransportImpl::advance(Connection& connection) {
  switch (connection.step) {
    case Step::kHello:
      return read_hello(connection);
    case Step::kCard:
      return read_card(connection);
    case Step::kReady:
    case Step::kUp:
      expect_silence(connection);
      return false;
    default:
      return false;
  }
}

bool UcxTransportImpl::read_hello(Connection& connection) {
  auto bytes = connection.door.read(kHelloBytes);
  if (bytes && bytes->empty()) return false;
  const auto hello = bytes ? decode_hello(*bytes) : fail(std::move(bytes.error()));
  if (!hello) {
    lose(connection, hello.error());
    return false;
  }
  connection.hello = std::move(*bytes);
  if (!connection.peer) {
    connection.peer = PeerId(next_peer_++);
    tokens_[*connection.peer] = connection.link.token();
    // One of another version gets our hello all the same: it reads there why.
    write_door(connection, hello_);
  }
  if (hello->version != version_) {
    lose(connection, *table_.accept_hello(*connection.peer, connection.hello).down);
    return false;
  }
  UcxCard card{connection.link.token()};
  if (connection.is_accepted()) {
    const auto port = offer_port(connection);
    if (!port) {
      lose(connection, port.error());
      return false;
    }
    card.port = *port;
  }
  connection.step = Step::kCard;
  write_door(connection, std::as_bytes(std::span(&card, 1)));
  return true;
}

Result<uint16_t> UcxTransportImpl::offer_port(Connection& connection) {
  PREGATE_ASSIGN(const SocketAddress host, local_address(connection.door.socket()));
  return connection.link.listen(host);
}

bool UcxTransportImpl::read_card(Connection& connection) {
  const auto bytes = connection.door.read(sizeof(UcxCard));
  if (bytes && bytes->empty()) return false;
  if (!bytes) {
    lose(connection, bytes.error());
    return false;
  }
  connection.card = read_struct<UcxCard>(*bytes);
  connection.step = Step::kReady;
  open_link(connection);
  return true;
}

void UcxTransportImpl::open_link(Connection& connection) {
  if (connection.step != Step::kReady || connection.link.is_open()) return;
  // One that was accepted waits until the peer has called the port it was offered.
  if (connection.is_accepted() && !connection.link.has_caller()) return;
  const Status opened = connection.is_accepted() ? connection.link.accept(connection.card.token)
                                                 : call_port(connection);
  if (!opened) return lose(connection, opened.error());
  connection.link.send(0, UcxFrameKind::kReady, UcxLink::make_header({}), {});
}

Status UcxTransportImpl::call_port(Connection& connection) {
  PREGATE_ASSIGN(SocketAddress address, remote_address(connection.door.socket()));
  if (connection.card.port == 0 || connection.card.port > 0xFFFF) {
    return fail(ErrorCode::kDataLoss, "was offered port {}", connection.card.port);
  }
  address.set_port(static_cast<uint16_t>(connection.card.port));
  return connection.link.dial(address, connection.card.token);
}

/// After the greeting the door has only its end to tell.
void UcxTransportImpl::expect_silence(Connection& connection) {
  const auto bytes = connection.door.read(1);
  if (!bytes) return lose(connection, bytes.error());
  if (!bytes->empty()) lose(connection, {ErrorCode::kDataLoss, "spoke after the greeting"});
}

void UcxTransportImpl::write_door(Connection& connection, std::span<const std::byte> bytes) {
  const Status written = connection.door.write(bytes);
  if (!written) lose(connection, written.error());
}

}  // namespace pregate::transport
