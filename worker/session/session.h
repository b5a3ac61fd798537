// How a worker finds its coordinator, joins it, stays with it and finds it again.
//
//            peer_up              Welcome
//   dialling -------> greeting -----------> joined
//      ^  |              |                    |
//      |  | too long     | too long, Refusal  | silence, peer_down
//      |  v              v  (retry)           v
//      +--------------- down <----------------+      any of them --> ended
//        after a pause
//
// Any message may be lost, doubled, reordered or late: what matters is said again until the other
// end shows that it knows.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "base/random.h"
#include "protocol/codec.h"
#include "protocol/handshake.h"
#include "transport/transport.h"
#include "worker/experts/loader.h"
#include "worker/probe.h"

namespace pregate::worker {

struct SessionOptions {
  transport::PeerId coordinator{0};
  std::string title = "the coordinator";  ///< For the log: what was dialled.
  std::string name = "worker";            ///< See protocol::is_worker_name().
  std::string host;                       ///< Empty: what the machine calls itself.
  protocol::Secret secret;
  uint64_t model_fingerprint = 0;  ///< Of this worker's checkpoint.
  compute::WeightFormat weight_format = compute::WeightFormat::kF32;
  protocol::Capacity capacity;  ///< See measure_capacity().

  /// Whether to dial again, for ever, when the coordinator is gone or refuses for now; else the
  /// worker ends. For transports where a peer can come back as the same incarnation (not MPI).
  bool reconnect = false;
  Duration heartbeat_interval = std::chrono::milliseconds(250);
  /// Silence after which the coordinator counts as gone. Longer than the coordinator's own limit:
  /// a worker that leaves too early takes its experts with it.
  Duration max_silence = std::chrono::seconds(10);
  /// The same from dialling to peer_up. If it reconnects it dials again after max_silence.
  Duration max_first_silence = std::chrono::minutes(5);
  /// From peer_up to Welcome.
  Duration handshake_timeout = std::chrono::seconds(5);
};

/// The session is over, for good.
struct Ending {
  bool failed = false;
  bool peers_lost = false;  ///< See transport::StopOptions.
};

/// Thread-safe. Calls the transport, which must not call back before it returns.
class Session {
 public:
  /// All outlive the session.
  struct Parts {
    transport::Transport& transport;
    ExpertLoader& loader;
    const Clock& clock;
    Random& random;  ///< Used with the session's lock.
    Probe& probe;
  };
  /// `queue_depth` and `end` must not call the session. `end` is called once.
  Session(const Parts& parts, SessionOptions options, std::function<size_t()> queue_depth,
          std::function<void(const Ending&)> end);

  /// What the transport is to say of this process; the same over all its connections.
  transport::Hello hello() const;
  void dial();
  /// Whatever is due: heartbeats, holdings, deadlines, dialling again. Returns when to call it
  /// again at the latest; also to be called when the loader changed something.
  TimePoint tick();
  /// Asks the coordinator to take the experts over and then to say goodbye. Without a coordinator
  /// there is nobody to ask, and the session ends.
  void ask_to_leave();
  /// Says goodbye to a coordinator that expects it, after `why` if there is something wrong.
  void close(const std::optional<Error>& why = std::nullopt);

  // What the transport tells.
  void link_up(const transport::Hello& coordinator);
  void link_down(const Error& error);
  void heard();
  void challenged(const protocol::Challenge& challenge);
  void welcomed(const protocol::Welcome& welcome);
  void refused(const protocol::Refusal& refusal);
  void seen_by_coordinator(const protocol::Heartbeat& heartbeat);
  void dismissed(const protocol::Goodbye& goodbye);

  /// The number of the connection over which the worker is joined; nothing if it is not.
  std::optional<uint64_t> joined_connection() const;
  /// Unless that connection is gone: requests are numbered by one life of a coordinator. For
  /// callers that drive the transport next, and its callbacks.
  void send(uint64_t connection, const protocol::Bytes& header, transport::Payload payload = {});

 private:
  enum class State { kIdle, kDown, kDialling, kGreeting, kJoined, kEnded };

  void dial_locked();
  TimePoint tick_down_locked(TimePoint now);
  TimePoint tick_greeting_locked(TimePoint now);
  TimePoint tick_joined_locked(TimePoint now);
  TimePoint report_locked(TimePoint now);
  void beat_locked(TimePoint now);
  void send_holdings_locked(TimePoint now);
  void send_join_locked(TimePoint now);
  void send_locked(const protocol::Bytes& header, transport::Payload payload = {});
  void note_sent(const Status& sent, size_t bytes);
  void cut_locked(const std::string& reason);
  void lose_locked(const std::string& reason);
  void log_loss_locked(const std::string& reason);
  void set_joined_locked(bool joined);
  void end_locked(const Ending& ending);
  Duration pause_locked();

  transport::Transport& transport_;
  ExpertLoader& loader_;
  const Clock& clock_;
  Random& random_;
  Probe& probe_;
  const SessionOptions options_;
  const std::function<size_t()> queue_depth_;
  const std::function<void(const Ending&)> end_;

  mutable std::mutex mutex_;
  // Guarded by mutex_.
  State state_ = State::kIdle;
  protocol::Join join_;                       // all but nonce and proof are the same each time
  std::optional<protocol::Nonce> challenge_;  // of this connection, once it came
  TimePoint due_;                             // kDown: dial; kDialling, kGreeting: give up
  TimePoint next_join_;                       // kGreeting: say it again
  TimePoint next_beat_, last_heard_, last_tick_;
  uint64_t connection_ = 0;  // counts peer_up
  uint64_t num_joined_ = 0;
  uint64_t num_beats_ = 0;
  uint64_t heard_beat_ = 0;         // of the coordinator, the latest on this connection
  uint64_t reported_revision_ = 0;  // of the holdings last sent on this connection; 0: none
  TimePoint reported_at_;
  bool leaving_ = false;
  bool owes_goodbye_ = false;
  uint32_t num_failures_ = 0;  // since it was joined
  std::optional<TimePoint> next_log_;
};

}  // namespace pregate::worker
