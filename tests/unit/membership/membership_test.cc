#include "coordinator/membership/membership.h"

#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "base/random.h"

namespace pregate::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kStart{std::chrono::hours(1)};
const WorkerId kWorker(1);

event::Joined joined(const std::string& name, uint64_t incarnation, uint32_t pid = 10) {
  return {name, "host", pid, incarnation, {1000, 1 << 20, 1 << 10, 4, "cpu"}};
}

/// Members, and a clock that moves with ticks.
struct World {
  MembershipOptions options;
  Members members;
  TimePoint now = kStart;

  std::vector<MembershipEffect> tell(const MembershipEvent& event) {
    return apply(members, options, event, now);
  }
  /// In ticks, as a process that is not held up has them.
  std::vector<MembershipEffect> wait(Duration duration) {
    std::vector<MembershipEffect> all;
    constexpr Duration kInterval = milliseconds(50);
    for (Duration passed{}; passed < duration; passed += kInterval) {
      now += kInterval;
      const auto effects = tell(event::Tick{kInterval});
      all.insert(all.end(), effects.begin(), effects.end());
    }
    return all;
  }
  WorkerState state_of(uint32_t worker) const { return members.at(WorkerId(worker)).state; }
};

template <typename Effect>
std::vector<Effect> only(const std::vector<MembershipEffect>& effects) {
  std::vector<Effect> found;
  for (const MembershipEffect& effect : effects) {
    if (const auto* match = std::get_if<Effect>(&effect)) found.push_back(*match);
  }
  return found;
}

WorkerId id_of(const std::vector<MembershipEffect>& effects) {
  const auto admitted = only<effect::Admit>(effects);
  return admitted.size() == 1 ? admitted[0].worker : WorkerId(0);
}

// Every state times every event. A cell is the next state and the effects in their order.
//
// States: "-" no such worker, j joining, l loading, r ready, d draining; s suspect and x dead,
// followed by what it was before.
// Effects: A admitted as new, S as the same incarnation, O as another one, R refused and may try
// again, c changed, D disconnect, E dismiss (end), F forgotten.
// Columns: Joined as the same incarnation or another; then the events of these names; then Ticks
// after 0.5 s of silence, 2 s and 11 s.
constexpr auto kTable = R"(
     same   other   Heard Assigned Completed Drain Drained LinkDown Left  Removed quiet silent gone
 -   j:Ac   j:Ac    -     -        -         -     -       -        -     -       -     -      -
 j   j:S    j:R     j     l:c      r:c       d:c   j       xj:cD    xj:c  -:cEF   j     sj:c   xj:cD
 l   l:S    l:R     l     l        r:c       d:c   l       xl:cD    xl:c  -:cEF   l     sl:c   xl:cD
 r   r:S    r:R     r     l:c      r         d:c   r       xr:cD    xr:c  -:cEF   r     sr:c   xr:cD
 d   d:S    d:R     d     d        d         d     xd:cE   xd:cD    xd:c  -:cEF   d     sd:c   xd:cD
 sj  j:Sc   j:cOc   j:c   sl       sr        sd    sj      xj:cD    xj:c  -:cEF   sj    sj     xj:cD
 sl  l:Sc   j:cOc   l:c   sl       sr        sd    sl      xl:cD    xl:c  -:cEF   sl    sl     xl:cD
 sr  r:Sc   j:cOc   r:c   sl       sr        sd    sr      xr:cD    xr:c  -:cEF   sr    sr     xr:cD
 sd  d:Sc   j:cOc   d:c   sd       sd        sd    xd:cE   xd:cD    xd:c  -:cEF   sd    sd     xd:cD
 xj  j:Sc   j:Oc    xj    xj       xj        xj    xj      xj       xj    -:F     xj    xj     xj
 xl  l:Sc   j:Oc    xl    xl       xl        xl    xl      xl       xl    -:F     xl    xl     xl
 xr  r:Sc   j:Oc    xr    xr       xr        xr    xr      xr       xr    -:F     xr    xr     xr
 xd  d:Sc   j:Oc    xd    xd       xd        xd    xd      xd       xd    -:F     xd    xd     xd
)";

const std::string kLetters = "jlrdsx";

WorkerState state_of_letter(char letter) { return WorkerState(kLetters.find(letter)); }

/// A table with a worker in a state, that was heard at kStart.
Members members_in(const std::string& state) {
  if (state == "-") return {};
  Member member;
  member.id = kWorker;
  member.name = "worker-1";
  member.incarnation = 7;
  member.state = state_of_letter(state[0]);
  if (state.size() > 1) member.before = state_of_letter(state[1]);
  member.last_heard = member.since = kStart;
  return {{kWorker, member}};
}

std::string state_in(const Members& members) {
  const auto found = members.find(kWorker);
  if (found == members.end()) return "-";
  const Member& member = found->second;
  std::string state(1, kLetters[static_cast<size_t>(member.state)]);
  const bool had_another = member.state >= WorkerState::kSuspect;
  if (had_another) state += kLetters[static_cast<size_t>(member.before)];
  return state;
}

char letter_of(const MembershipEffect& effect) {
  if (const auto* admit = std::get_if<effect::Admit>(&effect)) {
    if (!admit->replaced) return admit->same_incarnation ? '?' : 'A';
    return admit->same_incarnation ? 'S' : 'O';
  }
  if (const auto* refuse = std::get_if<effect::Refuse>(&effect)) return refuse->retry ? 'R' : '?';
  if (std::holds_alternative<effect::Changed>(effect)) return 'c';
  if (std::holds_alternative<effect::Disconnect>(effect)) return 'D';
  return std::holds_alternative<effect::Dismiss>(effect) ? 'E' : 'F';
}

struct Stimulus {
  MembershipEvent event;
  Duration after{};
};

Stimulus stimulus_of(const std::string& column) {
  const event::Tick tick{milliseconds(50)};
  if (column == "same") return {joined("worker-1", 7)};
  if (column == "other") return {joined("worker-1", 8)};
  if (column == "Heard") return {event::Heard{kWorker}};
  if (column == "Assigned") return {event::Assigned{kWorker}};
  if (column == "Completed") return {event::Completed{kWorker}};
  if (column == "Drain") return {event::Drain{kWorker}};
  if (column == "Drained") return {event::Drained{kWorker}};
  if (column == "LinkDown") return {event::LinkDown{kWorker, "broke"}};
  if (column == "Left") return {event::Left{kWorker}};
  if (column == "Removed") return {event::Removed{kWorker}};
  if (column == "quiet") return {tick, milliseconds(500)};
  if (column == "silent") return {tick, seconds(2)};
  EXPECT_EQ(column, "gone");
  return {tick, seconds(11)};
}

std::string outcome_of(const std::string& state, const std::string& column) {
  World world;
  world.members = members_in(state);
  const Stimulus stimulus = stimulus_of(column);
  world.now = kStart + stimulus.after;
  std::string letters;
  for (const MembershipEffect& effect : world.tell(stimulus.event)) letters += letter_of(effect);
  return state_in(world.members) + (letters.empty() ? "" : ":" + letters);
}

std::vector<std::string> words_of(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

TEST(Membership, EveryStateTakesEveryEvent) {
  std::istringstream lines(kTable);
  std::string line;
  std::getline(lines, line);
  std::getline(lines, line);
  const auto columns = words_of(line);
  size_t num_cells = 0;
  while (std::getline(lines, line)) {
    const auto cells = words_of(line);
    ASSERT_EQ(cells.size(), columns.size() + 1) << line;
    for (size_t i = 0; i < columns.size(); ++i, ++num_cells) {
      EXPECT_EQ(outcome_of(cells[0], columns[i]), cells[i + 1]) << cells[0] << " x " << columns[i];
    }
  }
  EXPECT_EQ(num_cells, 13u * 13u);
}

TEST(Membership, AWorkerGoesItsWay) {
  World world;
  EXPECT_EQ(id_of(world.tell(joined("worker-1", 7))), kWorker);
  const Member& member = world.members.at(kWorker);
  EXPECT_EQ(member.title(), "worker-1 (host:10)");
  EXPECT_EQ(member.capacity.backend, "cpu");
  EXPECT_EQ(member.last_heard, kStart);
  const std::vector<std::pair<MembershipEvent, std::string_view>> way{
      {event::Assigned{kWorker}, "loading"},   {event::Completed{kWorker}, "ready"},
      {event::Assigned{kWorker}, "loading"},   {event::Completed{kWorker}, "ready"},
      {event::Drain{kWorker}, "draining"},     {event::Assigned{kWorker}, "draining"},
      {event::Completed{kWorker}, "draining"}, {event::Drained{kWorker}, "dead"}};
  for (const auto& [event, state] : way) {
    world.now += milliseconds(1);
    const bool changes = to_string(member.state) != state;
    EXPECT_EQ(only<effect::Changed>(world.tell(event)).size(), changes ? 1u : 0u);
    EXPECT_EQ(to_string(member.state), state);
    EXPECT_EQ(member.since == world.now, changes);
  }
  EXPECT_EQ(member.reason, "was drained");
}

TEST(Membership, ChangesSayWhatHappened) {
  World world;
  auto changes = only<effect::Changed>(world.tell(joined("worker-1", 7)));
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].worker, kWorker);
  EXPECT_EQ(changes[0].title, "worker-1 (host:10)");
  EXPECT_EQ(changes[0].from, WorkerState::kDead);
  EXPECT_EQ(changes[0].to, WorkerState::kJoining);
  EXPECT_EQ(changes[0].reason, "");
  changes = only<effect::Changed>(world.tell(event::LinkDown{kWorker, "closed the connection"}));
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].from, WorkerState::kJoining);
  EXPECT_EQ(changes[0].to, WorkerState::kDead);
  EXPECT_EQ(changes[0].reason, "closed the connection");
  EXPECT_EQ(world.members.at(kWorker).reason, "closed the connection");
  world.tell(joined("worker-1", 8));
  EXPECT_EQ(world.members.at(kWorker).reason, "");
}

TEST(Membership, SilenceMakesSuspectThenDead) {
  World world;
  world.tell(joined("worker-1", 7));
  world.tell(event::Completed{kWorker});
  EXPECT_TRUE(world.wait(seconds(1)).empty());
  auto changes = only<effect::Changed>(world.wait(milliseconds(50)));
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].to, WorkerState::kSuspect);
  EXPECT_EQ(changes[0].reason, "stopped answering 1.1 s ago");
  EXPECT_TRUE(world.wait(milliseconds(8950)).empty());
  const auto effects = world.wait(milliseconds(50));
  changes = only<effect::Changed>(effects);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].to, WorkerState::kDead);
  EXPECT_EQ(only<effect::Disconnect>(effects).size(), 1u);
  EXPECT_TRUE(world.wait(seconds(60)).empty());
}

TEST(Membership, WhoSpeaksAgainIsWhatItWas) {
  World world;
  world.tell(joined("worker-1", 7));
  world.tell(event::Completed{kWorker});
  world.wait(seconds(2));
  ASSERT_EQ(world.state_of(1), WorkerState::kSuspect);
  world.tell(event::Heard{kWorker});
  EXPECT_EQ(world.state_of(1), WorkerState::kReady);
  EXPECT_EQ(world.members.at(kWorker).reason, "");
  EXPECT_TRUE(world.wait(milliseconds(900)).empty());
}

TEST(Membership, WhatIsDecidedOfASuspectHoldsWhenItSpeaks) {
  World world;
  world.tell(joined("worker-1", 7));
  world.wait(seconds(2));
  EXPECT_TRUE(world.tell(event::Drain{kWorker}).empty());
  EXPECT_EQ(world.state_of(1), WorkerState::kSuspect);
  world.tell(event::Heard{kWorker});
  EXPECT_EQ(world.state_of(1), WorkerState::kDraining);
}

TEST(Membership, AProcessThatWasHeldUpBlamesNobody) {
  World world;
  for (uint64_t i = 1; i <= 3; ++i) world.tell(joined(fmt::format("worker-{}", i), i));
  world.wait(milliseconds(200));
  for (int i = 0; i < 3; ++i) {  // Nor when that happens again and again.
    world.now += seconds(60);
    EXPECT_TRUE(world.tell(event::Tick{seconds(60)}).empty());
  }
  for (uint32_t i = 1; i <= 2; ++i) world.tell(event::Heard{WorkerId(i)});
  const auto changes = only<effect::Changed>(world.wait(milliseconds(950)));
  ASSERT_EQ(changes.size(), 1u) << "one of them has died meanwhile";
  EXPECT_EQ(changes[0].worker, WorkerId(3));
  EXPECT_EQ(changes[0].to, WorkerState::kSuspect);
}

TEST(Membership, HeldUpTimeDoesNotMakeAnybodyHeardInTheFuture) {
  World world;
  world.tell(joined("worker-1", 7));
  world.now += seconds(60);
  world.tell(event::Heard{kWorker});
  world.tell(event::Tick{seconds(60)});
  EXPECT_EQ(world.members.at(kWorker).last_heard, world.now);
}

/// Ticks that are always late must not keep the dead alive.
TEST(Membership, SlowTicksDelayDeathAndNoMore) {
  World world;
  world.tell(joined("worker-1", 7));
  int num_ticks = 0;
  for (; world.state_of(1) != WorkerState::kDead && num_ticks < 1000; ++num_ticks) {
    world.now += milliseconds(400);
    world.tell(event::Tick{milliseconds(400)});
  }
  EXPECT_EQ(num_ticks, 41);  // Of which each counts 250 ms.
}

TEST(Membership, ANameBelongsToOneLife) {
  World world;
  world.tell(joined("worker-1", 7));
  const auto effects = world.tell(joined("worker-1", 8, 11));
  const auto refused = only<effect::Refuse>(effects);
  ASSERT_EQ(effects.size(), 1u);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_TRUE(refused[0].retry);
  EXPECT_EQ(refused[0].error.code, ErrorCode::kUnavailable);
  EXPECT_NE(refused[0].error.message.find("worker-1 (host:10)"), std::string::npos);
  EXPECT_EQ(world.members.at(kWorker).incarnation, 7u);
}

TEST(Membership, ARestartedWorkerTakesThePlaceOfItsPastSelf) {
  for (const bool is_dead : {false, true}) {
    World world;
    world.tell(joined("worker-5", 7));
    world.wait(is_dead ? seconds(11) : seconds(2));
    const auto effects = world.tell(joined("worker-5", 8, 11));
    const auto admitted = only<effect::Admit>(effects);
    ASSERT_EQ(admitted.size(), 1u);
    EXPECT_EQ(admitted[0].worker, WorkerId(5));
    EXPECT_TRUE(admitted[0].replaced);
    EXPECT_FALSE(admitted[0].same_incarnation);
    EXPECT_EQ(world.members.size(), 1u);
    EXPECT_EQ(world.members.at(WorkerId(5)).title(), "worker-5 (host:11)");
    const auto changes = only<effect::Changed>(effects);
    ASSERT_EQ(changes.size(), is_dead ? 1u : 2u);
    EXPECT_EQ(changes.back().title, "worker-5 (host:11)");
    if (is_dead) continue;
    EXPECT_EQ(changes[0].title, "worker-5 (host:10)");
    EXPECT_EQ(changes[0].to, WorkerState::kDead);
    EXPECT_EQ(changes[0].reason, "was replaced by host:11");
  }
}

TEST(Membership, ADrainEndsWithItsLife) {
  World world;
  world.tell(joined("worker-1", 7));
  world.tell(event::Drain{kWorker});
  world.tell(event::LinkDown{kWorker, "broke"});
  world.tell(joined("worker-1", 7));
  EXPECT_EQ(world.state_of(1), WorkerState::kDraining);
  world.tell(event::Left{kWorker});
  world.tell(joined("worker-1", 8));
  EXPECT_EQ(world.state_of(1), WorkerState::kJoining);
  world.wait(seconds(2));
  world.tell(event::Heard{kWorker});
  EXPECT_EQ(world.state_of(1), WorkerState::kJoining);
}

TEST(Membership, IdsComeFromNames) {
  World world;
  world.options.max_workers = 8;
  const std::vector<std::pair<std::string, uint32_t>> expected{
      {"worker-3", 3}, {"3", 1},        {"other", 2},     {"worker-007", 7},
      {"worker-0", 4}, {"worker-9", 5}, {"8-of-many", 6}, {"node99999999999999999999", 8}};
  uint64_t incarnation = 0;
  for (const auto& [name, id] : expected) {
    EXPECT_EQ(id_of(world.tell(joined(name, ++incarnation))), WorkerId(id)) << name;
  }
}

TEST(Membership, OnlySoManyMayJoin) {
  World world;
  world.options.max_workers = 2;
  world.tell(joined("a", 1));
  world.tell(joined("b", 2));
  const auto refused = only<effect::Refuse>(world.tell(joined("c", 3)));
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_TRUE(refused[0].retry);
  EXPECT_EQ(refused[0].error.code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(world.members.size(), 2u);
  EXPECT_EQ(id_of(world.tell(joined("b", 2))), WorkerId(2)) << "who is listed may come back";
}

TEST(Membership, TheLongestDeadMakesRoom) {
  World world;
  world.options.max_workers = 3;
  for (const char* name : {"a", "b", "c"}) world.tell(joined(name, 1));
  for (const uint32_t id : {2, 1}) {
    world.now += milliseconds(1);
    world.tell(event::Left{WorkerId(id)});
  }
  const auto effects = world.tell(joined("d", 2));
  const auto forgotten = only<effect::Forgotten>(effects);
  ASSERT_EQ(forgotten.size(), 1u);
  EXPECT_EQ(forgotten[0].worker, WorkerId(2));
  EXPECT_EQ(id_of(effects), WorkerId(2));
  EXPECT_EQ(world.members.at(WorkerId(2)).name, "d");
}

TEST(Membership, UnknownWorkersAreNobody) {
  World world;
  world.tell(joined("worker-1", 7));
  const WorkerId nobody(99);
  const std::vector<MembershipEvent> events{
      event::Heard{nobody}, event::Assigned{nobody}, event::Completed{nobody},
      event::Drain{nobody}, event::Drained{nobody},  event::LinkDown{nobody, "broke"},
      event::Left{nobody},  event::Removed{nobody}};
  for (const MembershipEvent& event : events) EXPECT_TRUE(world.tell(event).empty());
  EXPECT_EQ(world.members.size(), 1u);
}

/// What must hold whatever happens; `states` is what the effects said so far.
class Walk {
 public:
  explicit Walk(uint64_t seed) : random_(seed) { world_.options.max_workers = 4; }

  void step() {
    world_.now += milliseconds(random_.next_below(1000));
    for (const MembershipEffect& effect : world_.tell(next_event())) follow(effect);
    std::set<std::string> names;
    for (const auto& [id, member] : world_.members) {
      EXPECT_EQ(id, member.id);
      EXPECT_TRUE(id.value >= 1 && id.value <= 4);
      EXPECT_TRUE(names.insert(member.name).second);
      EXPECT_EQ(member.state, states_.at(id));
      EXPECT_LT(member.before, WorkerState::kSuspect);
      EXPECT_EQ(member.reason.empty(), member.state < WorkerState::kSuspect);
      EXPECT_LE(member.last_heard, world_.now);
    }
    EXPECT_EQ(states_.size(), world_.members.size());
  }

 private:
  MembershipEvent next_event() {
    const WorkerId worker(static_cast<uint32_t>(random_.next_below(6)));
    switch (random_.next_below(11)) {
      case 0:
        return event::Assigned{worker};
      case 1:
        return event::Completed{worker};
      case 2:
        return event::Drain{worker};
      case 3:
        return event::Drained{worker};
      case 4:
        return event::LinkDown{worker, "broke"};
      case 5:
        return event::Left{worker};
      case 6:
        return event::Removed{worker};
      case 7:
      case 8:
        return event::Heard{worker};
      case 9:
        return event::Tick{milliseconds(random_.next_below(1000))};
      default:
        return joined(fmt::format("worker-{}", worker), random_.next_below(3));
    }
  }

  void follow(const MembershipEffect& effect) {
    if (const auto* change = std::get_if<effect::Changed>(&effect)) {
      const auto [known, is_new] = states_.try_emplace(change->worker, WorkerState::kDead);
      EXPECT_EQ(known->second, change->from);
      EXPECT_NE(change->from, change->to);
      known->second = change->to;
    } else if (const auto* forgotten = std::get_if<effect::Forgotten>(&effect)) {
      EXPECT_EQ(states_.at(forgotten->worker), WorkerState::kDead);
      states_.erase(forgotten->worker);
    }
  }

  Random random_;
  World world_;
  std::map<WorkerId, WorkerState> states_;
};

TEST(Membership, EffectsTellAllThatHappens) {
  for (uint64_t seed = 0; seed < 200 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Walk walk(seed);
    for (int i = 0; i < 300; ++i) walk.step();
  }
}

}  // namespace
}  // namespace pregate::coordinator
