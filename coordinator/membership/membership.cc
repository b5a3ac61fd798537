#include "coordinator/membership/membership.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

/// Alive and known to be.
bool speaks(const Member& member) {
  return member.state != WorkerState::kSuspect && member.state != WorkerState::kDead;
}

/// The number at the end of a name; 0 if there is none, or none that could be an id.
uint32_t number_at_end(std::string_view name) {
  const size_t last_other = name.find_last_not_of("0123456789");
  const size_t begin = last_other == std::string_view::npos ? 0 : last_other + 1;
  uint32_t number = 0;
  const auto parsed = std::from_chars(name.data() + begin, name.data() + name.size(), number);
  return parsed.ec == std::errc() ? number : 0;
}

WorkerId id_for(std::string_view name, const Members& members, size_t max_workers) {
  const WorkerId wanted(number_at_end(name));
  if (wanted.value > 0 && wanted.value <= max_workers && !members.contains(wanted)) return wanted;
  WorkerId id(1);
  while (members.contains(id)) ++id.value;
  return id;
}

std::string silence_text(Duration silence) {
  return fmt::format("stopped answering {:.1f} s ago", to_seconds(silence));
}

/// One event: changes the table and collects what is to be done.
class Change {
 public:
  Change(Members& members, const MembershipOptions& options, TimePoint now)
      : members_(members), options_(options), now_(now) {}

  void operator()(const event::Joined& joined) {
    const auto has_name = [&](const auto& entry) { return entry.second.name == joined.name; };
    const auto holder = std::find_if(members_.begin(), members_.end(), has_name);
    if (holder == members_.end()) return join_anew(joined);
    Member& member = holder->second;
    if (member.incarnation == joined.incarnation) return come_back(member, joined);
    if (speaks(member)) return refuse_name(member);
    replace(member, joined);
  }

  void operator()(const event::Heard& heard) {
    Member* member = find_live(heard.worker);
    if (member == nullptr) return;
    member->last_heard = now_;
    if (member->state == WorkerState::kSuspect) become(*member, member->before);
  }

  void operator()(const event::Assigned& assigned) {
    advance(assigned.worker, {WorkerState::kJoining, WorkerState::kReady}, WorkerState::kLoading);
  }

  void operator()(const event::Completed& completed) {
    advance(completed.worker, {WorkerState::kJoining, WorkerState::kLoading}, WorkerState::kReady);
  }

  void operator()(const event::Drain& drain) {
    advance(drain.worker, {WorkerState::kJoining, WorkerState::kLoading, WorkerState::kReady},
            WorkerState::kDraining);
  }

  void operator()(const event::Drained& drained) {
    Member* member = find_live(drained.worker);
    if (member == nullptr || state_when_it_speaks(*member) != WorkerState::kDraining) return;
    become(*member, WorkerState::kDead, "was drained");
    effects_.emplace_back(effect::Dismiss{member->id});
  }

  void operator()(const event::LinkDown& down) {
    Member* member = find_live(down.worker);
    if (member == nullptr) return;
    become(*member, WorkerState::kDead, down.reason);
    effects_.emplace_back(effect::Disconnect{member->id});
  }

  void operator()(const event::Left& left) {
    Member* member = find_live(left.worker);
    if (member != nullptr) become(*member, WorkerState::kDead, "has left");
  }

  void operator()(const event::Removed& removed) {
    if (Member* member = find_live(removed.worker)) {
      become(*member, WorkerState::kDead, "was removed");
      effects_.emplace_back(effect::Dismiss{member->id});
    }
    forget(removed.worker);
  }

  void operator()(const event::Tick& tick) {
    const Duration uncounted = std::max(Duration(), tick.since_last - options_.max_tick_gap);
    for (auto& [id, member] : members_) {
      if (!member.is_alive()) continue;
      member.last_heard = std::min(now_, member.last_heard + uncounted);
      check_silence(member);
    }
  }

  std::vector<MembershipEffect> take_effects() { return std::move(effects_); }

 private:
  Member* find_live(WorkerId worker) {
    const auto member = members_.find(worker);
    return member != members_.end() && member->second.is_alive() ? &member->second : nullptr;
  }

  static WorkerState& state_when_it_speaks(Member& member) {
    return speaks(member) ? member.state : member.before;
  }

  void become(Member& member, WorkerState to, std::string reason = {}) {
    if (member.state == to) return;
    const WorkerState from = member.state;
    if (speaks(member)) member.before = from;
    member.state = to;
    member.since = now_;
    member.reason = reason;
    effects_.emplace_back(effect::Changed{member.id, member.title(), from, to, std::move(reason)});
  }

  void advance(WorkerId worker, std::initializer_list<WorkerState> from, WorkerState to) {
    Member* member = find_live(worker);
    if (member == nullptr) return;
    const WorkerState state = state_when_it_speaks(*member);
    if (std::find(from.begin(), from.end(), state) == from.end()) return;
    if (speaks(*member)) {
      become(*member, to);
    } else {
      member->before = to;
    }
  }

  void check_silence(Member& member) {
    const Duration silence = now_ - member.last_heard;
    if (silence > options_.dead_after) {
      become(member, WorkerState::kDead, silence_text(silence));
      effects_.emplace_back(effect::Disconnect{member.id});
    } else if (silence > options_.suspect_after && speaks(member)) {
      become(member, WorkerState::kSuspect, silence_text(silence));
    }
  }

  void join_anew(const event::Joined& joined) {
    if (!make_room()) return;
    const WorkerId id = id_for(joined.name, members_, options_.max_workers);
    Member& member = members_[id];
    member.id = id;
    member.name = joined.name;
    member.state = WorkerState::kDead;
    admit(member, joined, {.worker = id}, WorkerState::kJoining);
  }

  /// The same process on another connection.
  void come_back(Member& member, const event::Joined& joined) {
    const effect::Admit answer{.worker = member.id, .replaced = true, .same_incarnation = true};
    admit(member, joined, answer, state_when_it_speaks(member));
  }

  /// Another process in the place of one that is silent or dead.
  void replace(Member& member, const event::Joined& joined) {
    become(member, WorkerState::kDead,
           fmt::format("was replaced by {}:{}", joined.host, joined.pid));
    admit(member, joined, {.worker = member.id, .replaced = true}, WorkerState::kJoining);
  }

  void admit(Member& member, const event::Joined& joined, const effect::Admit& answer,
             WorkerState state) {
    member.host = joined.host;
    member.pid = joined.pid;
    member.incarnation = joined.incarnation;
    member.capacity = joined.capacity;
    member.last_heard = now_;
    effects_.emplace_back(answer);
    become(member, state);
  }

  void refuse_name(const Member& holder) {
    const Error error{
        ErrorCode::kUnavailable,
        fmt::format("{} has this name and is {}: give each worker a name of its own (--name), or "
                    "wait until that one is gone",
                    holder.title(), to_string(holder.state))};
    effects_.emplace_back(effect::Refuse{true, error});
  }

  bool make_room() {
    if (members_.size() < options_.max_workers) return true;
    const auto goes_first = [](const auto& a, const auto& b) {
      return std::pair(a.second.is_alive(), a.second.since) <
             std::pair(b.second.is_alive(), b.second.since);
    };
    const auto oldest = std::min_element(members_.begin(), members_.end(), goes_first);
    if (oldest != members_.end() && !oldest->second.is_alive()) {
      forget(oldest->first);
      return true;
    }
    const Error error{ErrorCode::kResourceExhausted,
                      fmt::format("there are {} workers, and no more may join", members_.size())};
    effects_.emplace_back(effect::Refuse{true, error});
    return false;
  }

  void forget(WorkerId worker) {
    if (members_.erase(worker) > 0) effects_.emplace_back(effect::Forgotten{worker});
  }

  Members& members_;
  const MembershipOptions& options_;
  const TimePoint now_;
  std::vector<MembershipEffect> effects_;
};

}  // namespace

std::string_view to_string(WorkerState state) {
  switch (state) {
    case WorkerState::kJoining:
      return "joining";
    case WorkerState::kLoading:
      return "loading";
    case WorkerState::kReady:
      return "ready";
    case WorkerState::kDraining:
      return "draining";
    case WorkerState::kSuspect:
      return "suspect";
    case WorkerState::kDead:
      return "dead";
  }
  return "unknown";
}

std::string Member::title() const { return fmt::format("{} ({}:{})", name, host, pid); }

std::vector<MembershipEffect> apply(Members& members, const MembershipOptions& options,
                                    const MembershipEvent& event, TimePoint now) {
  Change change(members, options, now);
  std::visit(change, event);
  return change.take_effects();
}

}  // namespace pregate::coordinator
