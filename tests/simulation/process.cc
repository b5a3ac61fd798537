#include "tests/simulation/process.h"

namespace pregate::simulation {
namespace {

constexpr auto kMinWork = std::chrono::microseconds(200);
constexpr auto kMaxWork = std::chrono::microseconds(1500);
constexpr auto kRestartTime = std::chrono::milliseconds(500);

}  // namespace

WorkerProcess::WorkerProcess(Model& model, World& world, Network& network, HostId host,
                             const Scenario& scenario)
    : model_(model),
      world_(world),
      network_(network),
      host_(host),
      room_(scenario.room_experts),
      load_time_(scenario.load_time),
      random_(world.random().next_u64()) {}

WorkerProcess::~WorkerProcess() {
  if (worker_) kill();
}

worker::WorkerOptions WorkerProcess::options() const {
  worker::WorkerOptions options;
  options.session.name = name();
  options.session.host = fmt::format("host-{}", host_);
  options.session.secret = secret();
  options.session.model_fingerprint = kFingerprint;
  options.session.weight_format = compute::WeightFormat::kF32;
  options.session.capacity = {.rows_per_second = 1000,
                              .memory_bytes = room_ * model_.expert_bytes(),
                              .expert_bytes = model_.expert_bytes(),
                              .threads = 1,
                              .backend = "reference"};
  options.session.reconnect = true;
  return options;
}

void WorkerProcess::start() {
  if (worker_) return;
  ending_ = false;
  due_.fill(TimePoint::max());
  transport_ = network_.attach(host_);
  network_.after_events(host_, [this] { after_event(); });
  const auto read = [this](LayerIdx layer,
                           ExpertId expert) -> Result<std::unique_ptr<compute::PackedExpert>> {
    if (disk_broken_) return fail(ErrorCode::kDataLoss, "model.safetensors: cannot be read");
    return model_.load(layer, expert);
  };
  worker_ = std::make_unique<worker::Worker>(
      worker::WorkerParts{*transport_, model_.backend(), read, world_, random_, probe_}, options());
  worker_->start();
  after_event();
}

void WorkerProcess::kill() {
  network_.kill(host_);
  worker_.reset();
  transport_.reset();
}

void WorkerProcess::after_event() {
  if (!is_running()) return;
  schedule(kTick, world_.now());
  schedule(kLoad, world_.now() + load_time_);
  schedule(kServe, world_.now() + world_.between(kMinWork, kMaxWork));
}

void WorkerProcess::schedule(Step step, TimePoint time) {
  if (due_[step] <= time) return;
  due_[step] = time;
  network_.run_on(host_, time - world_.now(), [this, step, time] {
    if (due_[step] == time && is_running()) run(step);
  });
}

void WorkerProcess::run(Step step) {
  due_[step] = TimePoint::max();
  switch (step) {
    case kTick:
      schedule(kTick, worker_->tick());
      break;
    case kLoad:
      if (const TimePoint next = worker_->load_next(); next < TimePoint::max()) {
        schedule(kLoad, std::max(next, world_.now() + load_time_));
      }
      schedule(kTick, world_.now());
      break;
    case kServe:
      if (worker_->serve_next()) {
        schedule(kServe, world_.now() + world_.between(kMinWork, kMaxWork));
      }
      break;
    case kNumSteps:
      break;
  }
  if (worker_->is_over()) end();
}

void WorkerProcess::end() {
  ending_ = true;
  // Not from within the worker.
  network_.run_on(host_, {}, [this] {
    const int status = worker_->finish();
    kill();
    if (status != 0) world_.after(kRestartTime, [this] { start(); });
  });
}

}  // namespace pregate::simulation
