#include "worker/session/session.h"

#include <algorithm>

#include <unistd.h>

#include "base/log.h"

namespace pregate::worker {
namespace {

constexpr Duration kFirstPause = std::chrono::milliseconds(100);
constexpr Duration kLongestPause = std::chrono::seconds(2);
constexpr Duration kLogInterval = std::chrono::minutes(1);
/// A message of which no answer shows that it arrived is sent again.
constexpr Duration kJoinAgainAfter = std::chrono::seconds(1);
constexpr Duration kHoldingsAgainAfter = std::chrono::milliseconds(500);
/// Between reports while it loads.
constexpr Duration kReportInterval = std::chrono::milliseconds(50);

std::string machine_name() {
  char name[256] = {};
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

Session::Session(const Parts& parts, SessionOptions options, std::function<size_t()> queue_depth,
                 std::function<void(const Ending&)> end)
    : transport_(parts.transport),
      loader_(parts.loader),
      clock_(parts.clock),
      random_(parts.random),
      probe_(parts.probe),
      options_(std::move(options)),
      queue_depth_(std::move(queue_depth)),
      end_(std::move(end)) {
  join_.incarnation = random_.next_u64();
  join_.model_fingerprint = options_.model_fingerprint;
  join_.weight_format = static_cast<uint8_t>(options_.weight_format);
  join_.pid = static_cast<uint32_t>(::getpid());
  join_.capacity = options_.capacity;
  join_.name = options_.name;
  join_.host = options_.host.empty() ? machine_name() : options_.host;
}

transport::Hello Session::hello() const {
  const protocol::HelloInfo info{protocol::Role::kWorker, join_.pid, join_.host};
  return {protocol::kProtocolVersion, join_.incarnation, protocol::encode_hello_info(info)};
}

// Dialling, and dialling again.

void Session::dial() {
  std::lock_guard lock(mutex_);
  if (state_ == State::kIdle) dial_locked();
}

void Session::dial_locked() {
  state_ = State::kDialling;
  due_ = clock_.now() + (options_.reconnect ? options_.max_silence : options_.max_first_silence);
  transport_.connect(options_.coordinator);
}

void Session::link_up(const transport::Hello& coordinator) {
  std::lock_guard lock(mutex_);
  if (state_ == State::kEnded) return;
  set_joined_locked(false);
  state_ = State::kGreeting;
  const TimePoint now = clock_.now();
  due_ = now + options_.handshake_timeout;
  ++connection_;
  challenge_.reset();
  heard_beat_ = 0;
  reported_revision_ = 0;
  loader_.begin_session(coordinator.incarnation);
}

void Session::link_down(const Error& error) {
  std::lock_guard lock(mutex_);
  lose_locked(error.message);
}

/// Gives up a connection that the transport still has.
void Session::cut_locked(const std::string& reason) {
  transport_.disconnect(options_.coordinator);
  lose_locked(reason);
}

void Session::lose_locked(const std::string& reason) {
  if (state_ == State::kEnded || state_ == State::kDown) return;
  set_joined_locked(false);
  state_ = State::kDown;
  if (!options_.reconnect) {
    spdlog::error("{}: {}; leaving", options_.title, reason);
    return end_locked({.failed = true, .peers_lost = true});
  }
  log_loss_locked(reason);
  if (leaving_) return end_locked({});
  due_ = clock_.now() + pause_locked();
}

void Session::log_loss_locked(const std::string& reason) {
  const TimePoint now = clock_.now();
  if (next_log_ && now < *next_log_) return;
  spdlog::warn("{}: {}; trying again{}", options_.title, reason, next_log_ ? ", still" : "");
  next_log_ = now + kLogInterval;
}

/// Doubles each time, and differs between workers, so that a coordinator that comes back is not
/// dialled by all of them at once.
Duration Session::pause_locked() {
  constexpr uint32_t kMaxDoublings = 5;
  const Duration longest =
      std::min(kFirstPause * (1 << std::min(num_failures_, kMaxDoublings)), kLongestPause);
  ++num_failures_;
  return longest / 2 + std::chrono::duration_cast<Duration>(longest / 2 * random_.next_double());
}

void Session::set_joined_locked(bool joined) {
  if (joined == (state_ == State::kJoined)) return;
  probe_.joined(joined);
  if (joined) state_ = State::kJoined;
}

void Session::end_locked(const Ending& ending) {
  if (state_ == State::kEnded) return;
  set_joined_locked(false);
  state_ = State::kEnded;
  end_(ending);
}

// The handshake.

void Session::challenged(const protocol::Challenge& challenge) {
  std::lock_guard lock(mutex_);
  const bool again = challenge_ == challenge.nonce;
  if (state_ != State::kGreeting && (state_ != State::kJoined || again)) return;
  if (!again) {
    set_joined_locked(false);
    state_ = State::kGreeting;
    challenge_ = challenge.nonce;
    join_.nonce = protocol::make_nonce();
    join_.proof = protocol::prove_worker(options_.secret, *challenge_, join_);
  }
  send_join_locked(clock_.now());
}

void Session::send_join_locked(TimePoint now) {
  next_join_ = now + kJoinAgainAfter;
  send_locked(encode_header(join_));
}

void Session::welcomed(const protocol::Welcome& welcome) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kGreeting || !challenge_) return;
  const auto expected =
      protocol::prove_coordinator(options_.secret, *challenge_, join_, welcome.worker);
  if (!protocol::equal(expected, welcome.proof)) {
    transport_.disconnect(options_.coordinator);
    spdlog::error("{} does not know this cluster's secret (--secret-file); leaving",
                  options_.title);
    return end_locked({.failed = true, .peers_lost = true});
  }
  set_joined_locked(true);
  const TimePoint now = clock_.now();
  next_beat_ = last_heard_ = last_tick_ = now;
  num_failures_ = 0;
  next_log_.reset();
  if (++num_joined_ > 1) probe_.rejoined();
  spdlog::info("{}: joined as \"{}\", worker {}", options_.title, options_.name, welcome.worker);
  send_holdings_locked(now);
}

void Session::refused(const protocol::Refusal& refusal) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kGreeting && state_ != State::kJoined) return;
  const std::string reason = "refuses this worker: " + refusal.error.message;
  if (refusal.retry) return cut_locked(reason);
  transport_.disconnect(options_.coordinator);
  spdlog::error("{} {}; leaving", options_.title, reason);
  end_locked({.failed = true, .peers_lost = true});
}

void Session::dismissed(const protocol::Goodbye& goodbye) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kGreeting && state_ != State::kJoined) return;
  spdlog::info("{} says goodbye", options_.title);
  owes_goodbye_ = true;
  end_locked({.failed = false, .peers_lost = goodbye.peers_lost});
}

// Staying.

TimePoint Session::tick() {
  std::lock_guard lock(mutex_);
  const TimePoint now = clock_.now();
  switch (state_) {
    case State::kIdle:
    case State::kEnded:
      return TimePoint::max();
    case State::kDown:
      if (now >= due_) dial_locked();
      return due_;
    case State::kDialling:
      if (now >= due_) cut_locked("does not answer");
      return due_;
    case State::kGreeting:
      return tick_greeting_locked(now);
    case State::kJoined:
      return tick_joined_locked(now);
  }
  return TimePoint::max();
}

TimePoint Session::tick_greeting_locked(TimePoint now) {
  if (now >= due_) {
    cut_locked("did not finish the handshake");
    return due_;
  }
  if (!challenge_) return due_;
  if (now >= next_join_) send_join_locked(now);
  return std::min(due_, next_join_);
}

TimePoint Session::tick_joined_locked(TimePoint now) {
  // While this process was stopped it could not hear anything.
  const Duration pause = now - std::exchange(last_tick_, now);
  if (pause > 4 * options_.heartbeat_interval) last_heard_ += pause;
  const Duration silence = now - last_heard_;
  if (silence > options_.max_silence) {
    cut_locked(fmt::format("has said nothing for {:.1f} s", to_seconds(silence)));
    return due_;
  }
  if (now >= next_beat_) beat_locked(now);
  return std::min(next_beat_, report_locked(now));
}

void Session::beat_locked(TimePoint now) {
  next_beat_ = now + options_.heartbeat_interval;
  const ExpertLoader::State held = loader_.state();
  send_locked(
      encode_header(protocol::Heartbeat{.sequence = ++num_beats_,
                                        .heard = heard_beat_,
                                        .assignment = held.assignment,
                                        .revision = held.revision,
                                        .queue_depth = static_cast<uint32_t>(queue_depth_()),
                                        .leaving = leaving_}));
}

/// Sends holdings that the coordinator has not been sent yet, if it is time; else says when.
TimePoint Session::report_locked(TimePoint now) {
  const ExpertLoader::State held = loader_.state();
  if (held.revision == reported_revision_) return TimePoint::max();
  const TimePoint due = held.complete ? now : reported_at_ + kReportInterval;
  if (now < due) return due;
  send_holdings_locked(now);
  return TimePoint::max();
}

void Session::send_holdings_locked(TimePoint now) {
  const protocol::Holdings holdings = loader_.holdings();
  reported_revision_ = holdings.revision;
  reported_at_ = now;
  send_locked(encode_header(holdings),
              transport::Payload::copy_of(protocol::encode_payload(holdings)));
}

void Session::seen_by_coordinator(const protocol::Heartbeat& heartbeat) {
  std::lock_guard lock(mutex_);
  if (state_ != State::kJoined) return;
  const TimePoint now = clock_.now();
  heard_beat_ = std::max(heard_beat_, heartbeat.sequence);
  const bool missed = heartbeat.revision < reported_revision_;
  if (missed && now - reported_at_ >= kHoldingsAgainAfter) send_holdings_locked(now);
}

void Session::heard() {
  std::lock_guard lock(mutex_);
  last_heard_ = clock_.now();
}

std::optional<uint64_t> Session::joined_connection() const {
  std::lock_guard lock(mutex_);
  if (state_ != State::kJoined) return std::nullopt;
  return connection_;
}

void Session::send(uint64_t connection, const protocol::Bytes& header, transport::Payload payload) {
  std::lock_guard lock(mutex_);
  if (state_ == State::kJoined && connection == connection_) {
    const size_t bytes = header.size() + payload.size();
    note_sent(transport_.queue(options_.coordinator, header, std::move(payload), {}), bytes);
  }
}

void Session::send_locked(const protocol::Bytes& header, transport::Payload payload) {
  const size_t bytes = header.size() + payload.size();
  note_sent(transport_.send(options_.coordinator, header, std::move(payload), {}), bytes);
}

void Session::note_sent(const Status& sent, size_t bytes) {
  if (sent) {
    probe_.sent(bytes);
  } else {
    // What matters is said again; the coordinator's own deadline covers the rest.
    spdlog::debug("not sent: {}", sent.error().message);
  }
}

// Leaving.

void Session::ask_to_leave() {
  std::lock_guard lock(mutex_);
  leaving_ = true;
  if (state_ == State::kJoined) return beat_locked(clock_.now());
  if (state_ != State::kGreeting && options_.reconnect) end_locked({});
}

void Session::close(const std::optional<Error>& why) {
  std::lock_guard lock(mutex_);
  const bool joined = state_ == State::kJoined;
  if (why && joined) send_locked(encode_header(protocol::ErrorMessage{*why}));
  if (joined || owes_goodbye_) send_locked(encode_header(protocol::Goodbye{}));
  set_joined_locked(false);
  state_ = State::kEnded;
}

}  // namespace pregate::worker
