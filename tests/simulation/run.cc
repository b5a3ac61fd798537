#include "tests/simulation/run.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/dispatch/remote_experts.h"
#include "tests/simulation/process.h"

namespace pregate::simulation {
namespace {

constexpr auto kTickInterval = std::chrono::milliseconds(50);
/// What attention and sampling take.
constexpr auto kStepTime = std::chrono::milliseconds(1);
constexpr auto kStartTime = std::chrono::seconds(30);
/// After the last token, for the cluster to come to rest.
constexpr auto kSettleTime = std::chrono::seconds(90);

/// While the engine waits, the world goes on.
class WorldWaiter final : public coordinator::Waiter {
 public:
  explicit WorldWaiter(World& world) : world_(world) {}
  void wait(std::unique_lock<std::mutex>& lock, std::condition_variable&, TimePoint until,
            const std::function<bool()>& done) override {
    lock.unlock();
    while (!done() && world_.now() < until) world_.step(until);
    lock.lock();
  }

 private:
  World& world_;
};

class CountingProbe final : public coordinator::DispatchProbe {
 public:
  void batch_resent(coordinator::ResendReason) override { ++num_resent; }
  size_t num_resent = 0;
};

class Run {
 public:
  Run(Model& model, const Scenario& scenario, uint64_t seed)
      : model_(model),
        scenario_(scenario),
        world_(seed),
        texts_(draw_texts()),
        lone_(scenario.lone_expert ? std::optional(choose_lone_expert()) : std::nullopt),
        network_(world_, 1 + scenario.num_workers + num_joins(scenario)),
        transport_(network_.attach(0)),
        cluster_(*transport_, world_, options(), cluster_probe_) {}
  ~Run() {
    runtime_.reset();
    cluster_.stop();
  }

  Outcome run() {
    start();
    if (!outcome_.problem.empty()) return outcome_;
    for (const ScenarioEvent& event : scenario_.events) {
      world_.after(draw(event.at), [this, &event] { begin(event); });
    }
    generate_texts();
    outcome_.num_resent = probe_.num_resent;
    if (outcome_.problem.empty()) settle();
    return outcome_;
  }

 private:
  static size_t num_joins(const Scenario& scenario) {
    return static_cast<size_t>(std::ranges::count_if(
        scenario.events, [](const auto& event) { return event.trouble == Trouble::kJoin; }));
  }

  coordinator::ClusterOptions options() const {
    coordinator::ClusterOptions options;
    options.shape = model_.shape();
    options.model = "simulated";
    options.model_fingerprint = kFingerprint;
    options.weight_format = compute::WeightFormat::kF32;
    options.secret = secret();
    options.min_workers = scenario_.num_workers;
    options.balancer.replicas = scenario_.replicas;
    options.balancer.first_settle = {};
    if (lone_) options.placement = lone_placement();
    options.rebalance_bytes_per_second = 4 << 20;
    options.goodbye_timeout = {};
    return options;
  }

  Duration draw(const Span& span) { return world_.between(span.from, span.to); }
  void report(std::string problem) {
    if (outcome_.problem.empty()) outcome_.problem = std::move(problem);
  }

  void start() {
    if (lone_) cluster_.freeze_balancer(true);
    cluster_.start();
    tick();
    for (size_t i = 1; i <= scenario_.num_workers; ++i) {
      add_worker();
      world_.after(world_.between({}, std::chrono::milliseconds(50)),
                   [this, i] { workers_[i - 1]->start(); });
    }
    const TimePoint limit = world_.now() + kStartTime;
    while (!cluster_.health() && world_.now() < limit) world_.step(limit);
    if (const Status health = cluster_.health(); !health) {
      return report(fmt::format("did not start: {}", health.error().message));
    }
    const auto connect = [this](auto,
                                auto& backend) -> Result<std::unique_ptr<engine::ExpertClient>> {
      return std::make_unique<coordinator::RemoteExperts>(
          coordinator::DispatchParts{cluster_, world_, waiter_, backend, probe_},
          coordinator::DispatchOptions{.expert_wait = scenario_.expert_wait, .reproducible = true});
    };
    runtime_ = model_.runtime(connect);
  }

  void add_worker() {
    const HostId host = workers_.size() + 1;
    workers_.push_back(std::make_unique<WorkerProcess>(model_, world_, network_, host, scenario_));
  }

  void tick() {
    cluster_.tick();
    network_.run_on(0, kTickInterval, [this] { tick(); });
  }

  std::vector<Generation> draw_texts() {
    std::vector<Generation> texts;
    for (size_t i = 0; i < scenario_.num_sequences; ++i) {
      const uint64_t seed = world_.random().next_below(kNumPrompts);
      const bool at_once = i == 0 || scenario_.lone_expert;
      const size_t begins = at_once ? 0 : world_.random().next_below(scenario_.num_tokens);
      texts.push_back({.prompt_seed = seed, .begins_at_step = begins, .tokens = prompt_of(seed)});
    }
    return texts;
  }

  /// Whether a step from `first_step` on needs it, undisturbed.
  bool needs(const Generation& text, const ExpertKey& expert, size_t first_step) {
    const auto& steps = model_.expected(text.prompt_seed, scenario_.num_tokens).steps;
    return std::any_of(steps.begin() + static_cast<ptrdiff_t>(first_step), steps.end(),
                       [&](const auto& experts) { return experts.contains(expert); });
  }
  /// It never needs the lone expert once its prompt is computed.
  bool is_indifferent(const Generation& text, const ExpertKey& lone) {
    return !needs(text, lone, 1);
  }

  /// Other texts are drawn until there is one.
  ExpertKey choose_lone_expert() {
    for (;;) {
      if (const auto best = best_lone_expert()) return *best;
      texts_ = draw_texts();
    }
  }

  /// One that about half of the texts need in the second half of their answers, and as many never.
  std::optional<ExpertKey> best_lone_expert() {
    std::optional<ExpertKey> best;
    size_t best_score = 0;
    for (const LayerIdx layer : model_.shape().layers) {
      for (uint32_t id = 0; id < model_.shape().num_experts; ++id) {
        const ExpertKey expert(layer, ExpertId(id));
        size_t num_needing = 0, num_indifferent = 0;
        for (const Generation& text : texts_) {
          num_needing += needs(text, expert, scenario_.num_tokens / 2);
          num_indifferent += is_indifferent(text, expert);
        }
        const size_t score = std::min(num_needing, num_indifferent);
        if (score > best_score) best = expert;
        best_score = std::max(score, best_score);
      }
    }
    return best;
  }

  std::shared_ptr<const coordinator::Placement> lone_placement() const {
    auto placement = std::make_shared<coordinator::Placement>(1, model_.shape());
    uint32_t next = 0;
    for (const LayerIdx layer : model_.shape().layers) {
      for (uint32_t id = 0; id < model_.shape().num_experts; ++id) {
        const bool alone = lone_ == ExpertKey(layer, ExpertId(id));
        const auto others = static_cast<uint32_t>(scenario_.num_workers - 1);
        placement->add_replica(layer, ExpertId(id), WorkerId(alone ? 1 : 2 + next++ % others));
      }
    }
    return placement;
  }

  void generate_texts() {
    const TimePoint begin = world_.now();
    TimePoint step_begin = begin;
    const Status status = generate(runtime_->engine(), texts_, scenario_.num_tokens, [&] {
      world_.run_until(world_.now() + kStepTime);
      const Duration step = world_.now() - std::exchange(step_begin, world_.now());
      outcome_.longest_step = std::max(outcome_.longest_step, step);
      look_after_waiting();
    });
    outcome_.took = world_.now() - begin;
    judge(status);
  }

  /// What waits for too long ends; what does not need the lone expert is not to wait for those.
  void look_after_waiting() {
    waits_since_.resize(texts_.size());
    bool one_waits = false, one_is_left = false;
    for (size_t i = 0; i < texts_.size(); ++i) {
      Generation& text = texts_[i];
      one_waits |= text.missing.has_value();
      one_is_left |= lone_ && is_indifferent(text, *lone_) && text.num_new < scenario_.num_tokens;
      if (!text.missing) {
        waits_since_[i].reset();
      } else if (!waits_since_[i]) {
        waits_since_[i] = world_.now();
      } else if (world_.now() - *waits_since_[i] >= scenario_.expert_wait) {
        text.error = runtime_->engine().experts().missing_error(*text.missing);
        text.missing.reset();
      }
    }
    all_others_ended_meanwhile_ |= one_waits && !one_is_left;
  }

  void judge(const Status& status) {
    if (scenario_.expect_calm && probe_.num_resent > 0) {
      report(fmt::format("{} token batches were sent again", size_t{probe_.num_resent}));
    }
    if (outcome_.took > scenario_.limit) {
      report(fmt::format("took {:.1f} s", to_seconds(outcome_.took)));
    }
    if (!status) return report(status.error().message);
    for (const Generation& text : texts_) judge(text);
    const auto failed = [](const Generation& text) { return text.error.has_value(); };
    if (scenario_.expect_unavailable && std::ranges::none_of(texts_, failed)) {
      report("expected an error of unavailability, got answers");
    }
    if (lone_ && !all_others_ended_meanwhile_) {
      report("no text waited for the lone expert, or others waited with it");
    }
  }

  void judge(const Generation& text) {
    const std::string name = fmt::format("prompt {}", text.prompt_seed);
    if (lone_ && is_indifferent(text, *lone_) && text.was_set_aside) {
      report(name + ": waited for an expert that it does not need");
    }
    if (text.error) {
      if (!scenario_.expect_unavailable || text.error->code != ErrorCode::kUnavailable) {
        report(fmt::format("{}: {}", name, text.error->message));
      }
    } else if (text.tokens != model_.expected(text.prompt_seed, scenario_.num_tokens).tokens) {
      report(name + ": other tokens than undisturbed");
    }
  }

  /// When troubles are over, everything is held and nobody waits for anything.
  void settle() {
    world_.run_until(world_.now() + kSettleTime);
    const coordinator::ClusterInfo info = cluster_.info();
    for (const auto& worker : workers_) {
      if (worker->has_overflowed()) report(fmt::format("{} held too much", worker->name()));
    }
    if (scenario_.expect_unavailable) return;
    if (info.num_missing > 0)
      report(fmt::format("{} experts missing at the end", info.num_missing));
    if (const auto reached = scenario_.expect_passed_on) {
      if (!cluster_.table()->same_replicas(*reached ? *passed_on_ : *before_passing_on_)) {
        report(*reached ? "experts were not passed on" : "experts moved that could not");
      }
    }
    for (const coordinator::WorkerInfo& worker : info.workers) {
      const bool loading = worker.member.state == coordinator::WorkerState::kLoading;
      const bool unfinished = worker.num_held != worker.num_assigned;
      if (worker.member.is_alive() && (loading || unfinished)) {
        report(fmt::format("{} is {} and holds {} of {} at the end", worker.member.title(),
                           to_string(worker.member.state), worker.num_held, worker.num_assigned));
      }
    }
  }

  // Troubles.

  WorkerProcess* choose(const ScenarioEvent& event) {
    if (event.worker) return workers_[*event.worker - 1].get();
    std::vector<WorkerProcess*> running;
    for (const auto& worker : workers_) {
      if (worker->is_running()) running.push_back(worker.get());
    }
    return running.empty() ? nullptr : running[world_.random().next_below(running.size())];
  }

  void begin(const ScenarioEvent& event) {
    if (event.trouble == Trouble::kJoin) {
      add_worker();
      return workers_.back()->start();
    }
    if (event.trouble == Trouble::kRebalance) return rebalance();
    if (event.trouble == Trouble::kPassOn) return pass_on();
    WorkerProcess* const worker = choose(event);
    if (worker == nullptr || !worker->is_running()) return;
    spdlog::debug("{}: trouble {}", worker->name(), static_cast<int>(event.trouble));
    make(event, *worker);
    if (!event.lasts) return;
    world_.after(draw(*event.lasts), [this, &event, worker] { end(event, *worker); });
  }

  void make(const ScenarioEvent& event, WorkerProcess& worker) {
    const HostId host = worker.host();
    LinkFaults& to = network_.to_listener(host);
    LinkFaults& from = network_.from_listener(host);
    switch (event.trouble) {
      case Trouble::kKill:
        return worker.kill();
      case Trouble::kFreeze:
        return network_.freeze(host);
      case Trouble::kCut:
        to.cut = from.cut = true;
        return;
      case Trouble::kCutTo:
        to.cut = true;
        return;
      case Trouble::kCutFrom:
        from.cut = true;
        return;
      case Trouble::kBadLink:
        for (LinkFaults* faults : {&to, &from}) {
          faults->drop = event.drop;
          faults->duplicate = event.duplicate;
          faults->reorder = event.reorder;
          faults->max_delay += event.delay;
        }
        return;
      case Trouble::kDiskError:
        return worker.set_disk_broken(true);
      case Trouble::kDrain:
        (void)cluster_.find(worker.name()).and_then([this](WorkerId id) -> Result<WorkerId> {
          PREGATE_TRY(cluster_.drain(id));
          return id;
        });
        return;
      case Trouble::kJoin:
      case Trouble::kRebalance:
      case Trouble::kPassOn:
        return;
    }
  }

  void end(const ScenarioEvent& event, WorkerProcess& worker) {
    switch (event.trouble) {
      case Trouble::kKill:
        return worker.start();
      case Trouble::kFreeze:
        return network_.thaw(worker.host());
      case Trouble::kDiskError:
        return worker.set_disk_broken(false);
      default:
        network_.to_listener(worker.host()) = {};
        network_.from_listener(worker.host()) = {};
        network_.heal(worker.host());
    }
  }

  std::vector<WorkerId> ready_workers() const {
    std::vector<WorkerId> ready;
    for (const auto& worker : cluster_.info().workers) {
      if (worker.member.state == coordinator::WorkerState::kReady)
        ready.push_back(worker.member.id);
    }
    return ready;
  }

  void pass_on() {
    cluster_.freeze_balancer(true);
    before_passing_on_ = cluster_.target();
    const std::vector<WorkerId> ready = ready_workers();
    coordinator::Placement placement(0, model_.shape());
    for (const LayerIdx layer : model_.shape().layers) {
      for (uint32_t expert = 0; expert < model_.shape().num_experts; ++expert) {
        for (const WorkerId worker : before_passing_on_->workers(layer, ExpertId(expert))) {
          const auto found = std::ranges::find(ready, worker);
          if (found == ready.end()) return;  // A death came first.
          const auto next = std::next(found) == ready.end() ? ready.begin() : std::next(found);
          placement.add_replica(layer, ExpertId(expert), *next);
        }
      }
    }
    passed_on_.emplace(placement);
    set_target(placement);
  }

  void set_target(const coordinator::Placement& placement) {
    if (const Status set = cluster_.set_target(placement); !set) {
      report(fmt::format("set_target: {}", set.error().message));
    }
  }

  /// Each expert to a random worker that is there.
  void rebalance() {
    const std::vector<WorkerId> alive = ready_workers();
    if (alive.empty()) return;
    coordinator::Placement placement(0, model_.shape());
    for (const LayerIdx layer : model_.shape().layers) {
      for (uint32_t expert = 0; expert < model_.shape().num_experts; ++expert) {
        const WorkerId worker = alive[world_.random().next_below(alive.size())];
        placement.add_replica(layer, ExpertId(expert), worker);
      }
    }
    set_target(placement);
  }

  Model& model_;
  const Scenario& scenario_;
  World world_;
  std::vector<Generation> texts_;
  std::vector<std::optional<TimePoint>> waits_since_;  // by text
  const std::optional<ExpertKey> lone_;                // held by worker 1 only
  bool all_others_ended_meanwhile_ = false;  // while one text or more waited for an expert
  Network network_;
  WorldWaiter waiter_{world_};
  CountingProbe probe_;
  coordinator::ClusterProbe cluster_probe_;
  std::unique_ptr<transport::Transport> transport_;
  coordinator::Cluster cluster_;
  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<cli::ModelRuntime> runtime_;
  std::shared_ptr<const coordinator::Placement> before_passing_on_;
  std::optional<coordinator::Placement> passed_on_;
  Outcome outcome_;
};

}  // namespace

Outcome run_scenario(Model& model, const Scenario& scenario, uint64_t seed) {
  return Run(model, scenario, seed).run();
}

}  // namespace pregate::simulation
