#include "transport/ucx/ucx.h"

#include <algorithm>

#include "base/log.h"
#include "transport/ucx/transport_impl.h"

namespace pregate::transport {
namespace {

/// Of the loop, between two looks at the sockets while UCX has work: a system call each.
constexpr unsigned kDoorTurns = 64;
/// UCX gives buffers back by itself, and does not say when: look again.
constexpr Duration kClosingNap = std::chrono::milliseconds(5);
/// After the linger, for UCX to close by force: it takes a millisecond.
constexpr Duration kMaxClosingTime = std::chrono::seconds(1);

Error peer_error(PeerId peer, const char* what) {
  return {ErrorCode::kUnavailable, fmt::format("peer {} {}", peer, what)};
}

uint32_t first_accepted_peer(const UcxOptions& options) {
  uint32_t last = options.self.value;
  for (const auto& [peer, address] : options.addresses) last = std::max(last, peer.value);
  return last + 1;
}

/// A peer may be set to send more at once than we are; a payload must fit in any case.
size_t max_held_bytes(const UcxOptions& options) {
  return 2 * std::max(options.max_in_flight_bytes, kMaxHeaderBytes + kMaxPayloadBytes);
}

}  // namespace

UcxTransportImpl::UcxTransportImpl(UcxOptions options, std::unique_ptr<UcpWorker> worker,
                                   std::shared_ptr<UcxMailbox> mailbox)
    : options_(std::move(options)),
      table_(options_.max_in_flight_bytes),
      mailbox_(std::move(mailbox)),
      worker_(std::move(worker)),
      links_{*worker_, options_.rendezvous_threshold_bytes, max_held_bytes(options_), {}},
      next_peer_(first_accepted_peer(options_)) {
  mailbox_->own.add(worker_->event_fd(), kUcxKey, Poller::Until::kReadable);
  mailbox_->driver.add(worker_->event_fd(), kUcxKey, Poller::Until::kReadable);
  worker_->on_frame([this](auto header, void* data, size_t data_bytes, const auto& param) {
    return receive(header, data, data_bytes, param);
  });
}

UcxTransportImpl::~UcxTransportImpl() {
  stop({.linger = {}, .peers_lost = false});
  mailbox_->own.remove(worker_->event_fd());
  mailbox_->driver.remove(worker_->event_fd());
  // Before the connections: it may still own some of their buffers.
  worker_.reset();
}

Status UcxTransportImpl::listen(const SocketAddress& address) {
  PREGATE_ASSIGN(listener_, listen_on(address));
  PREGATE_ASSIGN(const SocketAddress bound, local_address(listener_));
  listen_address_ = to_string(bound);
  mailbox_->own.add(listener_.get(), kListenerKey, Poller::Until::kReadable);
  return {};
}

void UcxTransportImpl::start(Hello hello, Events events) {
  table_.set_hello(hello);
  hello_ = encode_hello(hello);
  version_ = hello.version;
  events_ = std::move(events);
  thread_ = std::thread([this] { serve(); });
}

void UcxTransportImpl::connect(PeerId peer) {
  if (!table_.begin_greeting(peer)) return;
  UcxCommand command;
  command.kind = Kind::kConnect;
  command.peer = peer;
  mailbox_->post(std::move(command));
}

Status UcxTransportImpl::send(PeerId to, std::span<const std::byte> header, Payload payload,
                              Completion done) {
  PREGATE_ASSIGN(auto command, admit(to, header, std::move(payload), std::move(done)));
  mailbox_->post(std::move(command));
  return {};
}

Status UcxTransportImpl::queue(PeerId to, std::span<const std::byte> header, Payload payload,
                               Completion done) {
  PREGATE_ASSIGN(auto command, admit(to, header, std::move(payload), std::move(done)));
  mailbox_->queue(std::move(command));
  return {};
}

Result<UcxCommand> UcxTransportImpl::admit(PeerId to, std::span<const std::byte> header,
                                           Payload payload, Completion done) {
  UcxCommand command;
  command.kind = Kind::kSend;
  command.peer = to;
  PREGATE_ASSIGN(command.send_id, table_.admit(to, header.size(), payload.size(), std::move(done)));
  command.header = UcxLink::make_header(header);
  command.payload = std::move(payload);
  return command;
}

void UcxTransportImpl::disconnect(PeerId peer) {
  UcxCommand command;
  command.kind = Kind::kDisconnect;
  command.peer = peer;
  command.failed = table_.forget(peer);
  mailbox_->post(std::move(command));
}

void UcxTransportImpl::stop(const StopOptions& options) {
  if (!thread_.joinable()) return;
  UcxCommand command;
  command.kind = Kind::kStop;
  command.leave_by = system_clock().now() + options.linger;
  mailbox_->post(std::move(command));
  thread_.join();
}

// The loop.

void UcxTransportImpl::serve() {
  int idle_turns = 0;
  for (unsigned turn = 0;; ++turn) {
    bool driven = false;
    {
      std::lock_guard owner(owner_);
      driven = mailbox_->is_driven();
      if (!driven && may_leave()) return close_all();
      idle_turns = !driven && take_turn() ? 0 : idle_turns + 1;
      if (turn % kDoorTurns == 0) attend_doors(mailbox_->own.wait(Duration::zero()));
    }
    if (driven || idle_turns > options_.spins) {
      sleep();
      idle_turns = 0;
    }
  }
}

/// False if there was nothing to do.
bool UcxTransportImpl::take_turn() {
  bool busy = take_commands();
  busy |= worker_->progress();
  busy |= attend_links();
  return busy;
}

void UcxTransportImpl::sleep() {
  Duration timeout{};
  {
    std::lock_guard owner(owner_);
    if (!mailbox_->fall_asleep()) return;
    // Who drives arms UCX himself, when he hands it back at the latest.
    const bool armed = mailbox_->is_driven() || worker_->arm();
    timeout = armed ? time_to_sleep() : Duration::zero();
  }
  const auto& keys = mailbox_->own.wait(timeout);
  mailbox_->awake();
  std::lock_guard owner(owner_);
  attend_doors(keys);
  // A greeting may have left UCX something to do, or called back.
  mailbox_->interrupt_drive();
}

bool UcxTransportImpl::drive(TimePoint until, const std::function<bool()>& done) {
  if (!mailbox_->begin_drive()) return false;
  mailbox_->own.remove(worker_->event_fd());
  const bool driven = drive_until(until, done);
  bool more = false;
  {
    std::lock_guard owner(owner_);
    more = !worker_->arm() || time_to_sleep() >= Duration::zero();
    mailbox_->own.add(worker_->event_fd(), kUcxKey, Poller::Until::kReadable);
  }
  mailbox_->end_drive(more);
  return driven;
}

/// False if the transport is leaving, which is for its own thread to do.
bool UcxTransportImpl::drive_until(TimePoint until, const std::function<bool()>& done) {
  int idle_turns = 0;
  for (DriveEnd end(until);;) {
    {
      std::lock_guard owner(owner_);
      if (leave_by_) return false;
      idle_turns = take_turn() ? 0 : idle_turns + 1;
    }
    if (done()) return true;
    if (end.is_reached(/*was_busy=*/idle_turns == 0)) return true;
    if (idle_turns > options_.spins) {
      sleep_driving(until);
      idle_turns = 0;
    }
  }
}

void UcxTransportImpl::sleep_driving(TimePoint until) {
  Duration timeout = std::max(until - system_clock().now(), Duration::zero());
  {
    std::lock_guard owner(owner_);
    if (!mailbox_->driver_falls_asleep()) return;
    if (!worker_->arm()) timeout = Duration::zero();
    if (const Duration due = time_to_sleep(); due >= Duration::zero()) {
      timeout = std::min(timeout, due);
    }
  }
  mailbox_->driver.wait(timeout);
  mailbox_->driver_awakes();
  std::lock_guard owner(owner_);
  drop_late_connections();
}

/// Until the next deadline; negative: for ever.
Duration UcxTransportImpl::time_to_sleep() const {
  if (!closing_.empty()) return kClosingNap;
  std::optional<TimePoint> next = leave_by_;
  for (const auto& [token, connection] : connections_) {
    if (connection->is_greeting())
      next = std::min(next.value_or(TimePoint::max()), connection->deadline);
  }
  if (!next) return Duration(-1);
  return std::max(*next - system_clock().now(), Duration::zero());
}

bool UcxTransportImpl::may_leave() {
  if (!leave_by_) return false;
  // Each peer that has read our bye closes.
  return connections_.size() == closing_.size() || system_clock().now() >= *leave_by_;
}

void UcxTransportImpl::close_all() {
  complete_all(table_.take_all(), fail(ErrorCode::kCancelled, "transport stopped"));
  for (const auto& [token, connection] : connections_) {
    if (connection->step != Step::kClosed) lose(*connection, {ErrorCode::kCancelled, "stopped"});
  }
  const TimePoint give_up = system_clock().now() + kMaxClosingTime;
  while (!connections_.empty() && system_clock().now() < give_up) {
    if (!worker_->progress()) std::this_thread::yield();
    attend_links();
  }
}

// Commands.

bool UcxTransportImpl::take_commands() {
  auto commands = mailbox_->take();
  for (UcxCommand& command : commands) execute(command);
  return !commands.empty();
}

void UcxTransportImpl::execute(UcxCommand& command) {
  switch (command.kind) {
    case Kind::kConnect:
      return begin_connection(command.peer);
    case Kind::kDial:
      return dial_address(command.token, command.address);
    case Kind::kSend:
      return begin_send(command);
    case Kind::kDisconnect:
      return end_connection(command);
    case Kind::kStop:
      return begin_leaving(command.leave_by);
  }
}

void UcxTransportImpl::begin_connection(PeerId peer) {
  if (leave_by_ || find(peer) != nullptr) return;
  const auto address = options_.addresses.find(peer);
  if (address == options_.addresses.end()) {
    table_.forget(peer);
    if (events_.peer_down) events_.peer_down(peer, peer_error(peer, "has no address to dial"));
    return;
  }
  Connection& connection = add_connection();
  connection.step = Step::kLookUp;
  connection.address = address->second;
  connection.peer = peer;
  tokens_[peer] = connection.link.token();
  look_up(connection);
}

void UcxTransportImpl::look_up(const Connection& connection) {
  auto numeric = parse_address(connection.address, LookUp::kNumbersOnly);
  if (numeric) return dial_address(connection.link.token(), numeric);
  // A name server that does not answer must not hold up the other peers, nor stop().
  std::thread([mailbox = mailbox_, token = connection.link.token(), name = connection.address] {
    UcxCommand command;
    command.kind = Kind::kDial;
    command.token = token;
    command.address = parse_address(name, LookUp::kAnyHost);
    mailbox->post(std::move(command));
  }).detach();
}

void UcxTransportImpl::dial_address(uint64_t token, const Result<SocketAddress>& address) {
  Connection* const connection = find(token);
  if (connection == nullptr || connection->step != Step::kLookUp) return;
  if (!address) return lose(*connection, address.error());
  auto socket = dial(*address);
  if (!socket) return lose(*connection, socket.error());
  connection->door = Door(std::move(*socket));
  connection->step = Step::kDial;
  mailbox_->own.add(connection->door.socket().get(), token, Poller::Until::kWritable);
}

void UcxTransportImpl::begin_send(UcxCommand& command) {
  Connection* const connection = find(command.peer);
  if (connection != nullptr && connection->step == Step::kUp) {
    return connection->link.send(command.send_id, UcxFrameKind::kMessage, std::move(command.header),
                                 std::move(command.payload));
  }
  if (const auto done = table_.complete(command.send_id)) {
    complete_all({*done}, fail(peer_error(command.peer, "is gone")));
  }
}

void UcxTransportImpl::end_connection(UcxCommand& command) {
  // It may have come up since disconnect() was called.
  auto failed = table_.forget(command.peer);
  std::move(failed.begin(), failed.end(), std::back_inserter(command.failed));
  if (Connection* const connection = find(command.peer); connection != nullptr) {
    tokens_.erase(command.peer);
    connection->peer.reset();  // so that peer_down is not called
    lose(*connection, peer_error(command.peer, "was disconnected"));
  }
  complete_all(command.failed, fail(peer_error(command.peer, "is gone")));
}

void UcxTransportImpl::begin_leaving(TimePoint leave_by) {
  leave_by_ = leave_by;
  if (listener_.is_open()) mailbox_->own.remove(listener_.get());
  listener_.close();
  for (const auto& [token, connection] : connections_) {
    if (connection->is_greeting()) {
      lose(*connection, {ErrorCode::kCancelled, "stopped"});
    } else if (connection->step == Step::kUp) {
      connection->link.send(0, UcxFrameKind::kBye, UcxLink::make_header({}), {});
    }
  }
}

// UCX.

ucs_status_t UcxTransportImpl::receive(std::span<const std::byte> header, void* data,
                                       size_t data_bytes, const ucp_am_recv_param_t& param) {
  if (header.size() < sizeof(UcxFramePrefix)) return UCS_OK;
  Connection* const connection = find(read_struct<UcxFramePrefix>(header).token);
  // Without one: the rest of what a peer sent that was given up.
  return connection == nullptr ? UCS_OK : connection->link.receive(header, data, data_bytes, param);
}

bool UcxTransportImpl::attend_links() {
  const auto touched = std::exchange(links_.touched, {});
  for (const uint64_t token : touched) {
    Connection* const connection = find(token);
    if (connection == nullptr || connection->step == Step::kClosed) continue;
    open_link(*connection);
    deliver(*connection);
    finish_sends(*connection);
    if (connection->step != Step::kClosed && connection->link.error()) {
      lose(*connection, *connection->link.error());
    }
  }
  forget_closed();
  return !touched.empty();
}

void UcxTransportImpl::deliver(Connection& connection) {
  while (connection.step != Step::kClosed) {
    auto frame = connection.link.next_frame();
    if (!frame) return;
    handle_frame(connection, std::move(*frame));
  }
}

void UcxTransportImpl::handle_frame(Connection& connection, UcxFrame frame) {
  switch (frame.kind) {
    case UcxFrameKind::kReady:
      return bring_up(connection);
    case UcxFrameKind::kMessage:
      // Not up: disconnect() was called, and its command is still to come.
      if (connection.step == Step::kUp && table_.is_up(*connection.peer) && events_.receive) {
        events_.receive(*connection.peer, frame.header, std::move(frame.payload));
      }
      return;
    case UcxFrameKind::kBye:
      return lose(connection, {ErrorCode::kUnavailable, "the other end stopped"});
  }
  lose(connection, {ErrorCode::kDataLoss, "frame of an unknown kind"});
}

/// Both ends know that bytes flow: we from theirs, they from ours.
void UcxTransportImpl::bring_up(Connection& connection) {
  if (connection.step != Step::kReady || !connection.link.is_open()) return;
  connection.step = Step::kUp;
  const auto greeting = table_.accept_hello(*connection.peer, connection.hello);
  if (greeting.up && events_.peer_up) events_.peer_up(*connection.peer, *greeting.up);
}

void UcxTransportImpl::finish_sends(Connection& connection) {
  for (const uint64_t id : connection.link.take_sent()) {
    if (const auto done = table_.complete(id)) complete_all({*done}, {});
  }
}

/// Ends a connection from any step, whoever wanted it.
void UcxTransportImpl::lose(Connection& connection, const Error& error) {
  if (connection.step == Step::kClosed) return;
  if (connection.is_accepted() && connection.is_greeting() && !leave_by_) count_refused(error);
  connection.step = Step::kClosed;
  if (connection.door.socket().is_open()) mailbox_->own.remove(connection.door.socket().get());
  connection.door.close();
  connection.link.close();
  closing_.push_back(connection.link.token());
  if (!connection.peer) return;
  const PeerId peer = *connection.peer;
  tokens_.erase(peer);
  const Error named = in_context(
      error, connection.is_accepted() ? fmt::format("peer {}", peer)
                                      : fmt::format("peer {} at {}", peer, connection.address));
  complete_all(table_.forget(peer), fail(named));
  if (!leave_by_ && events_.peer_down) events_.peer_down(peer, named);
}

void UcxTransportImpl::count_refused(const Error& error) {
  // Anyone can make these: one line each would fill the log.
  if (num_refused_++ == 0) {
    spdlog::warn("refused a connection to {}: {}; more of these are only counted", listen_address_,
                 error.message);
  }
}

void UcxTransportImpl::forget_closed() {
  std::erase_if(closing_, [this](uint64_t token) {
    const auto connection = connections_.find(token);
    connection->second->link.take_sent();
    if (!connection->second->link.is_closed()) return false;
    connections_.erase(connection);
    return true;
  });
}

Connection& UcxTransportImpl::add_connection() {
  uint64_t token = 0;
  // Not to be guessed: who knows it can speak for the peer.
  while (token < kFirstToken || connections_.contains(token)) token = random_.next_u64();
  auto connection =
      std::make_unique<Connection>(links_, token, system_clock().now() + options_.connect_timeout);
  return *connections_.emplace(token, std::move(connection)).first->second;
}

Connection* UcxTransportImpl::find(uint64_t token) {
  const auto connection = connections_.find(token);
  return connection == connections_.end() ? nullptr : connection->second.get();
}

Connection* UcxTransportImpl::find(PeerId peer) {
  const auto token = tokens_.find(peer);
  return token == tokens_.end() ? nullptr : find(token->second);
}

namespace {

Result<std::string> choose_device(const UcxOptions& options,
                                  const std::optional<SocketAddress>& listen) {
  if (!options.device.empty()) return options.device;
  if (listen) return listen->is_any() ? "" : device_with(*listen);
  if (options.addresses.empty()) return "";
  PREGATE_ASSIGN(const SocketAddress towards,
                 parse_address(options.addresses.begin()->second, LookUp::kAnyHost));
  return device_towards(towards);
}

}  // namespace

Result<std::unique_ptr<UcxTransport>> make_ucx_transport(const UcxOptions& options) {
  std::optional<SocketAddress> listen;
  if (!options.listen.empty()) {
    PREGATE_ASSIGN(listen, parse_address(options.listen, LookUp::kAnyHost));
  }
  PREGATE_ASSIGN(const std::string device, choose_device(options, listen));
  PREGATE_ASSIGN(auto worker, UcpWorker::create(device));
  PREGATE_ASSIGN(auto poller, Poller::create());
  PREGATE_ASSIGN(auto driver, Poller::create());
  auto mailbox = std::make_shared<UcxMailbox>(std::move(poller), std::move(driver));
  auto transport =
      std::make_unique<UcxTransportImpl>(options, std::move(worker), std::move(mailbox));
  if (listen) PREGATE_TRY(transport->listen(*listen));
  return transport;
}

}  // namespace pregate::transport
