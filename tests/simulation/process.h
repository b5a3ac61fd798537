// A worker's process on a simulated host, and the supervisor that starts it again when it fails.
#pragma once

#include <array>

#include "tests/simulation/model.h"
#include "tests/simulation/network.h"
#include "tests/simulation/scenario.h"
#include "worker/worker.h"

namespace pregate::simulation {

inline constexpr uint64_t kFingerprint = 0xC0FFEE;
inline protocol::Secret secret() { return protocol::Secret("sixteen letters or more"); }

class WorkerProcess {
 public:
  WorkerProcess(Model& model, World& world, Network& network, HostId host,
                const Scenario& scenario);
  ~WorkerProcess();

  std::string name() const { return fmt::format("worker-{}", host_); }
  HostId host() const { return host_; }
  bool is_running() const { return worker_ != nullptr && !ending_; }

  void start();
  void kill();
  void set_disk_broken(bool broken) { disk_broken_ = broken; }
  /// Whether it ever held more than its memory.
  bool has_overflowed() const { return probe_.most_bytes > room_ * model_.expert_bytes(); }

 private:
  enum Step { kTick, kLoad, kServe, kNumSteps };
  struct MemoryProbe final : worker::Probe {
    void holds(size_t, size_t bytes) override { most_bytes = std::max(most_bytes, bytes); }
    size_t most_bytes = 0;
  };

  void after_event();
  /// Runs a step at `time`, unless it is due earlier anyway.
  void schedule(Step step, TimePoint time);
  void run(Step step);
  void end();
  worker::WorkerOptions options() const;

  Model& model_;
  World& world_;
  Network& network_;
  const HostId host_;
  const size_t room_;  // experts that fit into its memory
  const Duration load_time_;
  Random random_;
  MemoryProbe probe_;
  bool disk_broken_ = false;
  bool ending_ = false;
  std::array<TimePoint, kNumSteps> due_;
  std::unique_ptr<transport::Transport> transport_;
  std::unique_ptr<worker::Worker> worker_;
};

}  // namespace pregate::simulation
