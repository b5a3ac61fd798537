// Which workers there are and how they are: a pure function of what happened. No clock, network or
// lock; the cluster (cluster.h) tells it events and carries out what it answers.
//
//            Joined          Assigned          Completed
//   (none) ---------> joining -------> loading <--------> ready
//                        |                |    Assigned     |
//                        |                |                 |        Drained, Left
//                        +----------------+-----------------+-> draining ------> dead
//                                               Drain
//   any of these four --- silence ---> suspect --- speaks ---> what it was before
//   any but dead -------- more silence, LinkDown, Left, Removed ---> dead
//
// One that joins and holds all it is to hold is ready at once. What would change the state of a
// worker that is suspect changes the state that it has when it speaks again.
//
// A worker is known by its name. Another incarnation of a name takes its place, and its id, when
// the earlier one is dead or suspect, and begins with joining. The same incarnation on another
// connection goes on in the state it had, dead or not, as it holds what it held. A dead worker
// stays listed until then, until removed, or until its place is needed.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "protocol/messages.h"

namespace pregate::coordinator {

enum class WorkerState { kJoining, kLoading, kReady, kDraining, kSuspect, kDead };

std::string_view to_string(WorkerState state);

struct MembershipOptions {
  /// Silence after which a worker is not asked if another can answer: neither MPI nor UCX reports a
  /// frozen peer.
  Duration suspect_after = std::chrono::seconds(1);
  /// Silence after which it is given up.
  Duration dead_after = std::chrono::seconds(10);
  /// Between two Ticks. If there was more, this process was held up itself: only so much of the
  /// time counts as the others' silence.
  Duration max_tick_gap = std::chrono::milliseconds(250);
  /// The dead included, but they make room.
  size_t max_workers = 1024;
};

struct Member {
  WorkerId id;
  std::string name;
  std::string host;
  uint32_t pid = 0;
  uint64_t incarnation = 0;
  protocol::Capacity capacity;
  WorkerState state = WorkerState::kJoining;
  /// Of one that is suspect or dead: what it is again when it speaks, or comes back.
  WorkerState before = WorkerState::kJoining;
  std::string reason;  ///< Why it is suspect or dead: "has left". Reads after the title.
  TimePoint last_heard;
  TimePoint since;  ///< Of `state`.

  /// "worker-1 (host:pid)".
  std::string title() const;
  bool is_alive() const { return state != WorkerState::kDead; }
};

using Members = std::map<WorkerId, Member>;

// What can happen. All but Joined and Tick are about a worker of the table; about one that is not
// there, or is dead, they change nothing.
namespace event {
/// Someone who knows the secret and has our checkpoint wants to be this worker.
struct Joined {
  std::string name, host;
  uint32_t pid = 0;
  uint64_t incarnation = 0;
  protocol::Capacity capacity;
};
/// Any message of it.
struct Heard {
  WorkerId worker;
};
/// It was told to hold something that it does not hold yet.
struct Assigned {
  WorkerId worker;
};
/// It holds what it was told to.
struct Completed {
  WorkerId worker;
};
/// Nothing new for it: its experts are to move elsewhere. Its next incarnation begins anew.
struct Drain {
  WorkerId worker;
};
/// What it held is held elsewhere, and nobody waits for it.
struct Drained {
  WorkerId worker;
};
/// The transport lost it, or it sent what cannot be.
struct LinkDown {
  WorkerId worker;
  std::string reason;  ///< As Member::reason.
};
/// It said goodbye, and ends the connection itself.
struct Left {
  WorkerId worker;
};
/// An operator forgets it, dead or alive.
struct Removed {
  WorkerId worker;
};
/// Time passes: to be told several times in max_tick_gap.
struct Tick {
  Duration since_last{};  ///< Since the Tick before.
};
}  // namespace event

using MembershipEvent =
    std::variant<event::Joined, event::Heard, event::Assigned, event::Completed, event::Drain,
                 event::Drained, event::LinkDown, event::Left, event::Removed, event::Tick>;

// What is to be done, in this order.
namespace effect {
/// Answer to Joined. `replaced`: this id had an earlier incarnation, or the same one on another
/// connection, which is to be cut.
struct Admit {
  WorkerId worker;
  bool replaced = false;
  bool same_incarnation = false;  ///< It still holds what it held.
};
/// Answer to Joined.
struct Refuse {
  bool retry = false;
  Error error;
};
/// For the log, the metrics and whoever waits. A new worker comes from kDead.
struct Changed {
  WorkerId worker;
  std::string title;  ///< Of the life that this is about: it may be in the table no more.
  WorkerState from, to;
  std::string reason;  ///< Member::reason
};
/// Cut the connection to it.
struct Disconnect {
  WorkerId worker;
};
/// Tell it to end; it ends the connection itself.
struct Dismiss {
  WorkerId worker;
};
/// It is not in the table any more.
struct Forgotten {
  WorkerId worker;
};
}  // namespace effect

using MembershipEffect = std::variant<effect::Admit, effect::Refuse, effect::Changed,
                                      effect::Disconnect, effect::Dismiss, effect::Forgotten>;

/// Changes `members` as `event` demands at the time `now`.
///
/// The id of a new name is the number at its end ("worker-3" is 3) where that is free and at most
/// max_workers, else the lowest free one above 0; so a launch gives the same ids each time. With
/// max_workers in the table a new name takes the place of the one that is dead for longest; if all
/// are alive it is refused, and may try again.
std::vector<MembershipEffect> apply(Members& members, const MembershipOptions& options,
                                    const MembershipEvent& event, TimePoint now);

}  // namespace pregate::coordinator
