#include "transport/mpi/mpi.h"

#include <atomic>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>

#include <mpi.h>

#include "transport/mailbox.h"
#include "transport/mpi/host.h"
#include "transport/mpi/inbox.h"
#include "transport/mpi/nap.h"
#include "transport/mpi/outbox.h"
#include "transport/peer_table.h"

namespace pregate::transport {
namespace {

struct World {
  PeerId rank;
  uint32_t size = 0;
};

/// What other threads ask of the one that calls MPI.
struct MpiCommand {
  enum class Kind { kSend, kDisconnect, kStop };
  Kind kind = Kind::kSend;
  PeerId peer;
  uint64_t send_id = 0;            // kSend; 0: a hello, which nobody waits for
  Payload frame, payload;          // kSend
  std::vector<Completion> failed;  // kDisconnect
  StopOptions stop;                // kStop
  TimePoint leave_by;              // kStop
};

/// MPI is called by one thread at a time, which runs the callbacks too: the transport's own, or one
/// in drive(). Who works holds owner_, and nobody sleeps with it. As MPI wakes nobody when
/// something arrives, ranks of one host ring for each other, and both threads look now and then.
class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(const MpiOptions& options)
      : options_(options), table_(options.max_in_flight_bytes) {}
  ~MpiTransport() override { stop({.linger = {}, .peers_lost = false}); }

  Status join();

  std::string name() const override { return "mpi"; }
  PeerId self() const override { return world_.rank; }
  std::vector<PeerId> launched_peers() const override;
  void start(Hello hello, Events events) override;
  void connect(PeerId peer) override;
  Status send(PeerId to, std::span<const std::byte> header, Payload payload,
              Completion done) override;
  Status queue(PeerId to, std::span<const std::byte> header, Payload payload,
               Completion done) override;
  void disconnect(PeerId peer) override;
  bool drive(TimePoint until, const std::function<bool()>& done) override;
  void interrupt_drive() override { mailbox_.interrupt_drive(); }
  void stop(const StopOptions& options) override;
  bool needs_hard_exit() const override { return hard_exit_; }

 private:
  using Kind = MpiCommand::Kind;
  struct Leaving {
    bool peers_lost = false;
    TimePoint by;
  };

  void run(std::promise<Result<World>> joined, std::shared_ptr<std::promise<void>> left);
  void serve();
  bool drive_until(TimePoint until, const std::function<bool()>& done);
  bool take_turn();
  bool take_commands();
  void execute(MpiCommand& command);
  void begin_send(MpiCommand& command);
  bool finish_sends();
  bool is_moving() const { return !outbox_.empty() || !inbox_.empty(); }
  bool may_leave(bool idle);
  void handle_frame(PeerId peer, const Result<Frame>& frame);
  void handle_hello(PeerId peer, const Frame& frame);
  void lose(PeerId peer, const Error& error);
  Result<MpiCommand> admit(PeerId to, std::span<const std::byte> header, Payload payload,
                           Completion done);
  void send_hello(PeerId peer);
  void begin();

  const MpiOptions options_;
  PeerTable table_;
  World world_;    // constant once joined
  Events events_;  // constant once started
  const std::shared_ptr<MpiHost> host_ = std::make_shared<MpiHost>();
  Mailbox<MpiCommand, Bell> mailbox_{host_->bell_of(MpiHost::kOwn),
                                     host_->bell_of(MpiHost::kDriver)};
  bool begun_ = false;         // used by start() and stop()
  uint32_t driver_rings_ = 0;  // used by who drives: before the last look
  std::promise<void> begin_, stop_posted_;
  std::thread thread_;
  std::future<void> left_;  // ready when the thread has left MPI
  std::atomic<bool> hard_exit_{false};

  std::mutex owner_;
  // Guarded by owner_.
  MpiOutbox outbox_;
  MpiInbox inbox_;
  std::optional<Leaving> leaving_;
  bool lost_any_ = false;
};

Result<World> init_mpi() {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_SERIALIZED) {
    return fail(ErrorCode::kUnavailable, "MPI_Init_thread failed (thread level {})", provided);
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return World{PeerId(static_cast<uint32_t>(rank)), static_cast<uint32_t>(size)};
}

Status MpiTransport::join() {
  std::promise<Result<World>> joined;
  auto result = joined.get_future();
  auto left = std::make_shared<std::promise<void>>();
  left_ = left->get_future();
  thread_ = std::thread([this, joined = std::move(joined), left]() mutable {
    run(std::move(joined), std::move(left));
  });
  PREGATE_ASSIGN(world_, result.get());
  return {};
}

void MpiTransport::run(std::promise<Result<World>> joined,
                       std::shared_ptr<std::promise<void>> left) {
  const auto host = host_;
  auto world = init_mpi();
  const bool in_mpi = world.has_value();
  if (in_mpi) {
    host->open();
    mailbox_.own = host->bell_of(MpiHost::kOwn);
    mailbox_.driver = host->bell_of(MpiHost::kDriver);
  }
  joined.set_value(std::move(world));
  if (in_mpi) {
    begin_.get_future().wait();
    serve();
    // No thread of this process rings the bells any more, which go with the host.
    stop_posted_.get_future().wait();
    // From here on `this` may be gone: stop() does not wait for ever.
    if (!hard_exit_) {
      host->close();
      MPI_Finalize();
    }
  }
  left->set_value();
}

std::vector<PeerId> MpiTransport::launched_peers() const {
  std::vector<PeerId> peers;
  for (uint32_t rank = 0; rank < world_.size; ++rank) {
    if (PeerId(rank) != world_.rank) peers.push_back(PeerId(rank));
  }
  return peers;
}

void MpiTransport::start(Hello hello, Events events) {
  table_.set_hello(hello);
  events_ = std::move(events);
  begin();
}

/// Lets the own thread begin, once.
void MpiTransport::begin() {
  if (!std::exchange(begun_, true)) begin_.set_value();
}

void MpiTransport::connect(PeerId peer) {
  if (table_.begin_greeting(peer)) send_hello(peer);
}

void MpiTransport::send_hello(PeerId peer) {
  MpiCommand command;
  command.peer = peer;
  command.frame = encode_frame(FrameKind::kHello, table_.hello_bytes(), {});
  mailbox_.post(std::move(command));
}

Status MpiTransport::send(PeerId to, std::span<const std::byte> header, Payload payload,
                          Completion done) {
  PREGATE_ASSIGN(auto command, admit(to, header, std::move(payload), std::move(done)));
  mailbox_.post(std::move(command));
  return {};
}

Status MpiTransport::queue(PeerId to, std::span<const std::byte> header, Payload payload,
                           Completion done) {
  PREGATE_ASSIGN(auto command, admit(to, header, std::move(payload), std::move(done)));
  mailbox_.queue(std::move(command));
  return {};
}

Result<MpiCommand> MpiTransport::admit(PeerId to, std::span<const std::byte> header,
                                       Payload payload, Completion done) {
  MpiCommand command;
  PREGATE_ASSIGN(command.send_id, table_.admit(to, header.size(), payload.size(), std::move(done)));
  command.peer = to;
  command.frame = encode_frame(FrameKind::kMessage, header, payload.bytes());
  if (!is_inline(payload.size())) command.payload = std::move(payload);
  return command;
}

void MpiTransport::disconnect(PeerId peer) {
  MpiCommand command;
  command.kind = Kind::kDisconnect;
  command.peer = peer;
  command.failed = table_.mark_down(peer);
  mailbox_.post(std::move(command));
}

void MpiTransport::stop(const StopOptions& options) {
  if (!thread_.joinable()) return;
  MpiCommand command;
  command.kind = Kind::kStop;
  command.stop = options;
  command.leave_by = system_clock().now() + options.linger;
  mailbox_.post(std::move(command));
  stop_posted_.set_value();
  begin();
  const auto timeout = options.linger + options_.finalize_timeout;
  if (left_.wait_for(timeout) == std::future_status::ready) {
    thread_.join();
  } else {
    thread_.detach();
    hard_exit_ = true;
  }
}

// The loop.

void MpiTransport::serve() {
  allow_short_naps();
  NapSchedule naps;
  for (;;) {
    bool driven = false;
    bool busy = false;
    bool moving = false;
    const uint32_t rings = mailbox_.own.rings();
    {
      std::lock_guard owner(owner_);
      driven = mailbox_.is_driven();
      busy = !driven && take_turn();
      if (!driven && may_leave(!busy)) return;
      moving = is_moving();
    }
    if (busy) {
      naps.reset();
      continue;
    }
    const Duration nap =
        driven ? NapSchedule::longest(host_->has_all()) : naps.next(moving, host_->has_all());
    if (nap == Duration::zero() || !mailbox_.fall_asleep()) continue;
    // Who drove may have handed over before this thread was one to wake.
    const bool handed_over = driven && !mailbox_.is_driven();
    if (!handed_over && mailbox_.own.wait(rings, nap)) naps.reset();
    mailbox_.awake();
  }
}

bool MpiTransport::drive(TimePoint until, const std::function<bool()>& done) {
  if (!mailbox_.begin_drive()) return false;
  host_->set_listener(MpiHost::kDriver);
  const bool driven = drive_until(until, done);
  host_->set_listener(MpiHost::kOwn);
  bool more = false;
  {
    std::lock_guard owner(owner_);
    // What came since the last look may have rung for this thread.
    more = is_moving() || leaving_ || mailbox_.driver.rings() != driver_rings_;
  }
  mailbox_.end_drive(more);
  return driven;
}

/// False if the transport is leaving, which is for its own thread to do.
bool MpiTransport::drive_until(TimePoint until, const std::function<bool()>& done) {
  allow_short_naps();
  NapSchedule naps;
  for (DriveEnd end(until);;) {
    bool busy = false;
    bool moving = false;
    driver_rings_ = mailbox_.driver.rings();
    {
      std::lock_guard owner(owner_);
      if (leaving_) return false;
      busy = take_turn();
      moving = is_moving();
    }
    if (done()) return true;
    if (end.is_reached(busy)) return true;
    if (busy) {
      naps.reset();
      continue;
    }
    const Duration nap =
        std::min(naps.next(moving, host_->has_all()), until - system_clock().now());
    if (nap > Duration::zero() && mailbox_.driver_falls_asleep()) {
      if (mailbox_.driver.wait(driver_rings_, nap)) naps.reset();
      mailbox_.driver_awakes();
    }
  }
}

/// False if there was nothing to do.
bool MpiTransport::take_turn() {
  bool busy = take_commands();
  busy |= inbox_.poll([this](PeerId peer, const auto& frame) { handle_frame(peer, frame); });
  busy |= finish_sends();
  return busy;
}

/// Decides how to leave MPI, too.
bool MpiTransport::may_leave(bool idle) {
  if (!leaving_) return false;
  const bool flushed = mailbox_.empty() && outbox_.empty();
  const bool late = system_clock().now() >= leaving_->by;
  if (!late && !(idle && flushed)) return false;
  hard_exit_ = leaving_->peers_lost || lost_any_ || !flushed;
  complete_all(table_.take_all(), fail(ErrorCode::kCancelled, "transport stopped"));
  return true;
}

bool MpiTransport::take_commands() {
  auto commands = mailbox_.take();
  for (MpiCommand& command : commands) execute(command);
  return !commands.empty();
}

void MpiTransport::execute(MpiCommand& command) {
  switch (command.kind) {
    case Kind::kSend:
      return begin_send(command);
    case Kind::kDisconnect:
      lost_any_ = true;
      outbox_.abandon(command.peer);
      inbox_.abandon(command.peer);
      return complete_all(command.failed,
                          fail(ErrorCode::kUnavailable, "peer {} is gone", command.peer));
    case Kind::kStop:
      leaving_ = {.peers_lost = command.stop.peers_lost, .by = command.leave_by};
      return;
  }
}

void MpiTransport::begin_send(MpiCommand& command) {
  if (command.peer.value >= world_.size || command.peer == world_.rank) {
    const Error error{ErrorCode::kUnavailable,
                      fmt::format("there is no rank {} to talk to", command.peer)};
    if (events_.peer_down) events_.peer_down(command.peer, error);
    return;
  }
  const Status posted = outbox_.post(command.send_id, command.peer, std::move(command.frame),
                                     std::move(command.payload));
  if (!posted) return lose(command.peer, posted.error());
  host_->ring(command.peer);
}

bool MpiTransport::finish_sends() {
  const auto finished = outbox_.poll();
  for (const MpiOutbox::Finished& send : finished) {
    // MPI may have held it back so far.
    if (send.was_late) host_->ring(send.peer);
    if (const auto done = table_.complete(send.id)) complete_all({*done}, {});
  }
  return !finished.empty();
}

void MpiTransport::lose(PeerId peer, const Error& error) {
  lost_any_ = true;
  outbox_.abandon(peer);
  complete_all(table_.mark_down(peer), fail(error));
  if (events_.peer_down) events_.peer_down(peer, error);
}

void MpiTransport::handle_frame(PeerId peer, const Result<Frame>& frame) {
  if (!frame) return lose(peer, in_context(frame.error(), fmt::format("rank {}", peer)));
  if (frame->kind == FrameKind::kHello) return handle_hello(peer, *frame);
  if (table_.is_up(peer) && events_.receive) {
    events_.receive(peer, frame->header, frame->payload);
  }
}

void MpiTransport::handle_hello(PeerId peer, const Frame& frame) {
  const auto greeting = table_.accept_hello(peer, frame.header);
  if (greeting.answer) send_hello(peer);
  if (greeting.down && events_.peer_down) events_.peer_down(peer, *greeting.down);
  if (greeting.up && events_.peer_up) events_.peer_up(peer, *greeting.up);
}

}  // namespace

bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const char* size = std::getenv(name);
    if (size != nullptr && std::atoi(size) > 1) return true;
  }
  return false;
}

Result<std::unique_ptr<Transport>> make_mpi_transport(const MpiOptions& options) {
  auto transport = std::make_unique<MpiTransport>(options);
  PREGATE_TRY(transport->join());
  return transport;
}

}  // namespace pregate::transport
