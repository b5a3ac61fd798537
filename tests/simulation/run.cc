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
    options.rebalance_bytes_per_second = 4 << 20;
    options.goodbye_timeout = {};
    return options;
  }

  Duration draw(const Span& span) { return world_.between(span.from, span.to); }
  void report(std::string problem) {
    if (outcome_.problem.empty()) outcome_.problem = std::move(problem);
  }

  void start() {
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
    runtime_ = model_.runtime([this](auto, auto&) -> Result<std::unique_ptr<engine::ExpertClient>> {
      return std::make_unique<coordinator::RemoteExperts>(
          cluster_, world_, waiter_,
          coordinator::DispatchOptions{.expert_wait = scenario_.expert_wait, .reproducible = true},
          probe_);
    });
  }

  void add_worker() {
    const HostId host = workers_.size() + 1;
    workers_.push_back(
        std::make_unique<WorkerProcess>(model_, world_, network_, host, scenario_.room_experts));
  }

  void tick() {
    cluster_.tick();
    network_.run_on(0, kTickInterval, [this] { tick(); });
  }

  void generate_texts() {
    std::vector<Generation> texts;
    for (size_t i = 0; i < scenario_.num_sequences; ++i) {
      const uint64_t seed = world_.random().next_below(kNumPrompts);
      const size_t begins = i == 0 ? 0 : world_.random().next_below(scenario_.num_tokens);
      texts.push_back({.prompt_seed = seed, .begins_at_step = begins, .tokens = prompt_of(seed)});
    }
    const TimePoint begin = world_.now();
    TimePoint step_begin = begin;
    const Status status = generate(runtime_->engine(), texts, scenario_.num_tokens, [&] {
      world_.run_until(world_.now() + kStepTime);
      const Duration step = world_.now() - std::exchange(step_begin, world_.now());
      outcome_.longest_step = std::max(outcome_.longest_step, step);
    });
    outcome_.took = world_.now() - begin;
    judge(status, texts);
  }

  void judge(const Status& status, const std::vector<Generation>& texts) {
    if (scenario_.expect_calm && probe_.num_resent > 0) {
      report(fmt::format("{} token batches were sent again", size_t{probe_.num_resent}));
    }
    if (outcome_.took > scenario_.limit) {
      report(fmt::format("took {:.1f} s", to_seconds(outcome_.took)));
    }
    if (scenario_.expect_unavailable) {
      if (status || status.error().code != ErrorCode::kUnavailable) {
        report(fmt::format("expected an error of unavailability, got {}",
                           status ? "answers" : status.error().message));
      }
      return;
    }
    if (!status) return report(status.error().message);
    for (const Generation& text : texts) {
      if (text.tokens == model_.expected(text.prompt_seed, scenario_.num_tokens)) continue;
      report(fmt::format("prompt {}: other tokens than undisturbed", text.prompt_seed));
    }
  }

  /// When troubles are over, everything is held and nobody waits for anything.
  void settle() {
    world_.run_until(world_.now() + kSettleTime);
    const coordinator::ClusterInfo info = cluster_.info();
    if (scenario_.expect_unavailable) return;
    if (info.num_missing > 0)
      report(fmt::format("{} experts missing at the end", info.num_missing));
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

  /// Each expert to a random worker that is there.
  void rebalance() {
    std::vector<WorkerId> alive;
    for (const auto& worker : cluster_.info().workers) {
      if (worker.member.state == coordinator::WorkerState::kReady)
        alive.push_back(worker.member.id);
    }
    if (alive.empty()) return;
    coordinator::Placement placement(0, model_.shape());
    for (const LayerIdx layer : model_.shape().layers) {
      for (uint32_t expert = 0; expert < model_.shape().num_experts; ++expert) {
        const WorkerId worker = alive[world_.random().next_below(alive.size())];
        placement.add_replica(layer, ExpertId(expert), worker);
      }
    }
    if (const Status set = cluster_.set_target(placement); !set) {
      report(fmt::format("set_target: {}", set.error().message));
    }
  }

  Model& model_;
  const Scenario& scenario_;
  World world_;
  Network network_;
  WorldWaiter waiter_{world_};
  CountingProbe probe_;
  coordinator::ClusterProbe cluster_probe_;
  std::unique_ptr<transport::Transport> transport_;
  coordinator::Cluster cluster_;
  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<cli::ModelRuntime> runtime_;
  Outcome outcome_;
};

}  // namespace

Outcome run_scenario(Model& model, const Scenario& scenario, uint64_t seed) {
  return Run(model, scenario, seed).run();
}

}  // namespace pregate::simulation
