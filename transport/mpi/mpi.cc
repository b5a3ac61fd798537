#include "transport/mpi/mpi.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <future>
#include <mutex>
#include <thread>

#include <mpi.h>
#include <sys/prctl.h>

#include "base/log.h"
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

/// All calls of MPI are made on one thread, which runs the callbacks too.
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
  void disconnect(PeerId peer) override;
  void stop(const StopOptions& options) override;
  bool needs_hard_exit() const override { return hard_exit_; }

 private:
  /// What other threads ask of the one that owns MPI.
  struct Command {
    enum class Kind { kSend, kDisconnect };
    Kind kind = Kind::kSend;
    PeerId peer;
    uint64_t send_id = 0;  // 0: a hello, which nobody waits for
    Payload frame, payload;
    std::vector<Completion> failed;
  };

  void run(std::promise<Result<World>> joined, std::shared_ptr<std::promise<void>> left);
  void serve();
  bool take_commands();
  void execute(Command& command);
  bool finish_sends();
  void handle_frame(PeerId peer, const Result<Frame>& frame);
  void handle_hello(PeerId peer, const Frame& frame);
  void lose(PeerId peer, const Error& error);
  void post(Command command);
  void send_hello(PeerId peer);
  void wait_for_start();
  void nap(Duration duration);
  bool may_leave(bool idle);

  const MpiOptions options_;
  PeerTable table_;
  World world_;    // constant once joined
  Events events_;  // constant once started
  std::thread thread_;
  std::future<void> left_;  // ready when the thread has left MPI
  std::atomic<bool> hard_exit_{false};

  // Own thread only.
  MpiOutbox outbox_;
  MpiInbox inbox_;
  bool lost_any_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Command> commands_;         // guarded by mutex_
  bool started_ = false;                 // guarded by mutex_
  std::optional<StopOptions> stopping_;  // guarded by mutex_
  TimePoint leave_by_;                   // guarded by mutex_
};

Result<World> init_mpi() {
  int provided = 0;
  // FUNNELED: only this thread, which initialises, will call MPI.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_FUNNELED) {
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
  auto world = init_mpi();
  const bool in_mpi = world.has_value();
  joined.set_value(std::move(world));
  if (in_mpi) {
    // Else the kernel rounds a nap of 50 us up by as much again.
    prctl(PR_SET_TIMERSLACK, 1);
    wait_for_start();
    serve();
    // From here on `this` may be gone: stop() does not wait for ever.
    if (!hard_exit_) MPI_Finalize();
  }
  left->set_value();
}

void MpiTransport::wait_for_start() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return started_ || stopping_.has_value(); });
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
  {
    std::lock_guard lock(mutex_);
    started_ = true;
  }
  wake_.notify_one();
}

void MpiTransport::connect(PeerId peer) {
  if (table_.begin_greeting(peer)) send_hello(peer);
}

void MpiTransport::send_hello(PeerId peer) {
  Command command;
  command.peer = peer;
  command.frame = encode_frame(FrameKind::kHello, table_.hello_bytes(), {});
  post(std::move(command));
}

Status MpiTransport::send(PeerId to, std::span<const std::byte> header, Payload payload,
                          Completion done) {
  Command command;
  PREGATE_ASSIGN(command.send_id, table_.admit(to, header.size(), payload.size(), std::move(done)));
  command.peer = to;
  command.frame = encode_frame(FrameKind::kMessage, header, payload.bytes());
  if (!is_inline(payload.size())) command.payload = std::move(payload);
  post(std::move(command));
  return {};
}

void MpiTransport::disconnect(PeerId peer) {
  Command command;
  command.kind = Command::Kind::kDisconnect;
  command.peer = peer;
  command.failed = table_.mark_down(peer);
  post(std::move(command));
}

void MpiTransport::post(Command command) {
  {
    std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  wake_.notify_one();
}

void MpiTransport::stop(const StopOptions& options) {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = options;
    leave_by_ = std::chrono::steady_clock::now() + options.linger;
  }
  wake_.notify_one();
  const auto timeout = options.linger + options_.finalize_timeout;
  if (left_.wait_for(timeout) == std::future_status::ready) {
    thread_.join();
  } else {
    thread_.detach();
    hard_exit_ = true;
  }
}

void MpiTransport::serve() {
  NapSchedule naps;
  for (;;) {
    bool busy = take_commands();
    busy |= inbox_.poll([this](PeerId peer, const auto& frame) { handle_frame(peer, frame); });
    busy |= finish_sends();
    if (may_leave(!busy)) return;
    if (busy) {
      naps.reset();
    } else if (const Duration duration = naps.next(); duration > Duration::zero()) {
      // A large message moves only when both ends poll.
      const bool moving = !outbox_.empty() || !inbox_.empty();
      nap(moving ? NapSchedule::kShortNap : duration);
    }
  }
}

void MpiTransport::nap(Duration duration) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, duration, [this] { return !commands_.empty() || stopping_.has_value(); });
}

/// Decides how to leave MPI, too.
bool MpiTransport::may_leave(bool idle) {
  {
    std::lock_guard lock(mutex_);
    if (!stopping_) return false;
    const bool flushed = commands_.empty() && outbox_.empty();
    const bool late = std::chrono::steady_clock::now() >= leave_by_;
    if (!late && !(idle && flushed)) return false;
    hard_exit_ = stopping_->peers_lost || lost_any_ || !flushed;
  }
  complete_all(table_.take_all(), fail(ErrorCode::kCancelled, "transport stopped"));
  return true;
}

bool MpiTransport::take_commands() {
  std::deque<Command> commands;
  {
    std::lock_guard lock(mutex_);
    commands.swap(commands_);
  }
  for (Command& command : commands) execute(command);
  return !commands.empty();
}

void MpiTransport::execute(Command& command) {
  if (command.kind == Command::Kind::kDisconnect) {
    lost_any_ = true;
    outbox_.abandon(command.peer);
    inbox_.abandon(command.peer);
    complete_all(command.failed, fail(ErrorCode::kUnavailable, "peer {} is gone", command.peer));
    return;
  }
  if (command.peer.value >= world_.size || command.peer == world_.rank) {
    const Error error{ErrorCode::kUnavailable,
                      fmt::format("there is no rank {} to talk to", command.peer)};
    if (events_.peer_down) events_.peer_down(command.peer, error);
    return;
  }
  const Status posted = outbox_.post(command.send_id, command.peer, std::move(command.frame),
                                     std::move(command.payload));
  if (!posted) lose(command.peer, posted.error());
}

bool MpiTransport::finish_sends() {
  const auto finished = outbox_.poll();
  for (const uint64_t id : finished) {
    if (const auto done = table_.complete(id)) complete_all({*done}, {});
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
