#include "cli/doctor/gather.h"

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "base/random.h"

namespace pregate::cli::doctor {
namespace {

using transport::Payload;
using transport::PeerId;
using transport::Transport;

/// Not the cluster's, so that processes of different versions can still report.
constexpr uint32_t kDoctorVersion = 1;
/// The quickest trip tells the most.
constexpr int kClockTrips = 9;
const PeerId kFirst(0);

enum class Say : uint8_t { kReport = 1, kTellTime = 2, kTime = 3, kEnough = 4 };

void say(Transport& transport, PeerId to, Say what, std::string_view text = {}) {
  const std::byte header{static_cast<uint8_t>(what)};
  // What does not arrive is missed by the one who waits for it.
  const Status sent = transport.send(
      to, {&header, 1}, Payload::copy_of(std::as_bytes(std::span(text.data(), text.size()))),
      [](const Status&) {});
  static_cast<void>(sent);
}

std::string text_of(const Payload& payload) {
  return {reinterpret_cast<const char*>(payload.bytes().data()), payload.size()};
}

double wall_clock() {
  return to_seconds(
      std::chrono::duration_cast<Duration>(std::chrono::system_clock::now().time_since_epoch()));
}

transport::Hello doctor_hello() {
  return {
      .version = kDoctorVersion, .incarnation = Random(seed_from_system()).next_u64(), .info = {}};
}

/// Of another rank, as far as it is known.
struct Patient {
  std::optional<Report> report;
  double asked_at = 0;
  double quickest_trip = 1e9;
  double offset = 0;
  int num_trips = 0;

  bool is_done() const { return report && num_trips >= kClockTrips; }
};

class Gathering {
 public:
  explicit Gathering(Transport& transport) : transport_(transport) {
    for (const PeerId peer : transport.launched_peers()) patients_[peer];
  }

  /// The transport keeps it until it is stopped, which is not here.
  static std::shared_ptr<Gathering> start(Transport& transport) {
    const auto gathering = std::make_shared<Gathering>(transport);
    transport.start(doctor_hello(),
                    {.peer_up = [gathering](PeerId peer, const auto&) { gathering->ask(peer); },
                     .peer_down = {},
                     .receive =
                         [gathering](PeerId peer, auto header, const Payload& payload) {
                           gathering->receive(peer, header, payload);
                         }});
    for (const PeerId peer : transport.launched_peers()) transport.connect(peer);
    return gathering;
  }

  std::vector<Report> finish(Report own, Duration timeout) {
    std::unique_lock lock(mutex_);
    heard_.wait_for(lock, timeout, [this] {
      for (const auto& [peer, patient] : patients_) {
        if (!patient.is_done()) return false;
      }
      return true;
    });
    std::vector<Report> reports = {std::move(own)};
    for (auto& [peer, patient] : patients_) {
      reports.push_back(finished(peer, patient));
      say(transport_, peer, Say::kEnough);
    }
    return reports;
  }

 private:
  void ask(PeerId peer) {
    std::lock_guard lock(mutex_);
    patients_[peer].asked_at = wall_clock();
    say(transport_, peer, Say::kTellTime);
  }

  void receive(PeerId peer, std::span<const std::byte> header, const Payload& payload) {
    if (header.size() != 1) return;
    const auto what = static_cast<Say>(header[0]);
    if (what == Say::kReport) take_report(peer, payload);
    if (what == Say::kTime && take_time(peer, payload)) ask(peer);
    heard_.notify_one();
  }

  void take_report(PeerId peer, const Payload& payload) {
    auto report = from_json(text_of(payload));
    if (!report) report = silent(peer, report.error().message);
    std::lock_guard lock(mutex_);
    patients_[peer].report = std::move(*report);
  }

  /// Whether to ask once more.
  bool take_time(PeerId peer, const Payload& payload) {
    std::lock_guard lock(mutex_);
    Patient& patient = patients_[peer];
    double told = 0;
    if (payload.size() != sizeof(told)) return false;
    std::memcpy(&told, payload.bytes().data(), sizeof(told));
    const double trip = wall_clock() - patient.asked_at;
    if (trip < patient.quickest_trip) {
      patient.quickest_trip = trip;
      patient.offset = told - (patient.asked_at + trip / 2);
    }
    return ++patient.num_trips < kClockTrips;
  }

  static Report finished(PeerId peer, Patient& patient) {
    if (!patient.report) return silent(peer, "no answer");
    Report report = std::move(*patient.report);
    report.rank = peer.value;
    if (patient.num_trips == 0) return report;
    report.clock_offset = patient.offset;
    report.clock_error = patient.quickest_trip / 2;
    return report;
  }

  static Report silent(PeerId peer, const std::string& why) {
    Report report;
    report.host = fmt::format("(rank {})", peer);
    report.rank = peer.value;
    report.checks = {{"report", Outcome::kFailed, why,
                      "look for what its host says; the same version of pregate on every host"}};
    return report;
  }

  Transport& transport_;
  std::mutex mutex_;
  std::condition_variable heard_;
  std::map<PeerId, Patient> patients_;  // guarded by mutex_
};

}  // namespace

std::vector<Report> gather_reports(Transport& transport, Report own, Duration timeout) {
  return Gathering::start(transport)->finish(std::move(own), timeout);
}

Status send_report(Transport& transport, const Report& report, Duration timeout) {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable wake;
    bool enough = false;
  };
  const auto waiting = std::make_shared<Waiting>();
  const auto receive = [&transport, waiting](PeerId, std::span<const std::byte> header,
                                             const Payload&) {
    if (header.size() != 1) return;
    const double now = wall_clock();
    const auto what = static_cast<Say>(header[0]);
    if (what == Say::kTellTime) {
      say(transport, kFirst, Say::kTime, {reinterpret_cast<const char*>(&now), sizeof(now)});
    }
    if (what != Say::kEnough) return;
    std::lock_guard lock(waiting->mutex);
    waiting->enough = true;
    waiting->wake.notify_one();
  };
  const auto send = [&transport, text = to_json(report)](PeerId, const auto&) {
    say(transport, kFirst, Say::kReport, text);
  };
  transport.start(doctor_hello(), {.peer_up = send, .peer_down = {}, .receive = receive});
  std::unique_lock lock(waiting->mutex);
  if (waiting->wake.wait_for(lock, timeout, [&] { return waiting->enough; })) return {};
  return fail(ErrorCode::kDeadlineExceeded, "rank 0 did not take this rank's report");
}

}  // namespace pregate::cli::doctor
