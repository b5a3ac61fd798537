#include "coordinator/scheduling/scheduler.h"

#include <algorithm>

#include "base/log.h"
#include "base/random.h"

namespace pregate::coordinator {
namespace {

using compute::kKvBlockTokens;

// How long something may sit unseen when a wake-up got lost; none should.
constexpr auto kIdleWait = std::chrono::milliseconds(100);

std::optional<ExpertPreview> make_preview(const BatchPolicy& policy, router::Router& router,
                                          const SchedulerOptions& options, const TextRules& rules) {
  if (!policy.reads_experts()) return std::nullopt;
  const size_t num_prompt = (rules.max_model_len + kKvBlockTokens - 1) / kKvBlockTokens;
  return ExpertPreview(router, {.num_kv = options.num_kv_blocks, .num_prompt = num_prompt});
}

bool wants_all_logits(const Sequence& sequence) {
  return sequence.wants_prompt_logprobs() && sequence.num_generated() == 0;
}

void ask_for_logits(const Slice& slice, engine::StepSequence& asked) {
  using engine::LogitRows;
  if (wants_all_logits(*slice.sequence)) {
    asked.logits = LogitRows::kAll;
  } else if (!slice.reaches_end()) {
    asked.logits = LogitRows::kNone;
  } else if (const auto draw = slice.sequence->next_draw()) {
    asked.logits = LogitRows::kTokenOfLast;
    asked.draw = *draw;
  } else {
    asked.logits = LogitRows::kLast;
  }
}

}  // namespace

Scheduler::Scheduler(engine::Engine& engine, ThreadPool& threads, TextRules rules,
                     SchedulerOptions options, monitoring::ServingProbe& probe,
                     std::function<Status()> available)
    : engine_(engine),
      threads_(threads),
      rules_(std::move(rules)),
      options_(options),
      probe_(probe),
      available_(std::move(available)),
      pool_(options.num_kv_blocks, options.prefix_caching),
      planner_(options.limits, pool_, make_batch_policy(options.policy)),
      preview_(make_preview(planner_.policy(), engine.router(), options, rules_)),
      thread_([this](const std::stop_token& stop) { run(stop); }) {
  engine_.experts().watch_homes([this] {
    std::lock_guard lock(mutex_);
    homes_changed_ = true;
    changed_.notify_all();
  });
}

Scheduler::~Scheduler() { stop(); }

Status Scheduler::check(const GenerationRequest& request) const {
  if (request.prompt.empty()) {
    return fail(ErrorCode::kInvalidArgument, "prompt: empty, expected at least one token");
  }
  if (request.prompt.size() + (request.max_tokens > 0) > rules_.max_model_len) {
    return fail(ErrorCode::kInvalidArgument,
                "prompt: {} tokens, but the context is {} tokens and must hold the answer too",
                request.prompt.size(), rules_.max_model_len);
  }
  for (const TokenId token : request.prompt) {
    if (token >= 0 && static_cast<size_t>(token) < engine_.config().vocab_size) continue;
    return fail(ErrorCode::kInvalidArgument, "prompt: token id {}, expected 0 to {}", token,
                engine_.config().vocab_size - 1);
  }
  return {};
}

Result<RequestId> Scheduler::submit(GenerationRequest request, GenerationListener listener) {
  PREGATE_TRY(check(request));
  PREGATE_TRY(available_());
  std::lock_guard lock(mutex_);
  if (thread_.get_stop_token().stop_requested()) {
    return fail(ErrorCode::kUnavailable, "the server is shutting down");
  }
  if (num_queued_ + request.num_choices > options_.max_queue) {
    return fail(ErrorCode::kResourceExhausted, "the queue is full ({} of {} places taken)",
                num_queued_, options_.max_queue);
  }
  num_queued_ += request.num_choices;
  auto active = std::make_shared<ActiveRequest>();
  active->id = RequestId(++last_id_);
  active->request = std::move(request);
  active->listener = std::move(listener);
  active->arrival = system_clock().now();
  ++num_unfinished_;
  submitted_.push_back(std::move(active));
  changed_.notify_one();
  return RequestId(last_id_);
}

void Scheduler::cancel(RequestId id) {
  std::lock_guard lock(mutex_);
  cancelled_.push_back(id);
  changed_.notify_one();
}

void Scheduler::stop() {
  thread_.request_stop();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  engine_.experts().watch_homes({});
}

void Scheduler::run(const std::stop_token& stop) {
  engine_.choose_among(rules_.vocab_size);
  while (take_inbox(stop)) run_step();
  const Error error{ErrorCode::kUnavailable, "the server was stopped"};
  for (const auto& sequence : planner_.remove_if([](const Sequence&) { return true; })) {
    ActiveRequest& request = sequence->request();
    if (!std::exchange(request.failed, true)) request.listener.on_error(error);
    close_choice(*sequence, monitoring::Finish::kAbort);
  }
}

// Waits, if there is nothing to compute, for a moment or until there may be; false when it is time
// to end.
bool Scheduler::take_inbox(const std::stop_token& stop) {
  std::vector<std::shared_ptr<ActiveRequest>> submitted;
  bool stopping = false;
  {
    std::unique_lock lock(mutex_);
    const auto has_news = [&] {
      return stop.stop_requested() || !submitted_.empty() || !cancelled_.empty() || homes_changed_;
    };
    if (idle_) changed_.wait_for(lock, kIdleWait, has_news);
    homes_changed_ = false;
    stopping = stop.stop_requested();  // under the lock: what is submitted later was refused
    submitted.swap(submitted_);
    to_cancel_.swap(cancelled_);
    num_queued_ = planner_.num_waiting();
    for (const auto& request : submitted) num_queued_ += request->request.num_choices;
  }
  for (auto& request : submitted) start_request(std::move(request));
  drop_cancelled();
  return !stopping;
}

void Scheduler::start_request(std::shared_ptr<ActiveRequest> request) {
  const uint32_t num_choices = request->request.num_choices;
  request->num_open_choices = num_choices;
  const uint64_t seed = options_.seed != 0 ? options_.seed + request->id.value : seed_from_system();
  for (uint32_t choice = 0; choice < num_choices; ++choice) {
    planner_.add(std::make_unique<Sequence>(request, choice, rules_, seed));
  }
}

void Scheduler::run_step() {
  look_for_homes();
  look_at_experts();
  std::vector<Slice> step = planner_.plan();
  idle_ = step.empty();
  report_state();
  if (idle_) return;
  const TimePoint started = system_clock().now();
  if (const auto set_aside = compute(step); set_aside) {
    put_aside(step, *set_aside);
    deliver(step, started);
    remove_finished();
  } else {
    fail_step(step, set_aside.error());
  }
  report_state();  // No step may follow for a long time.
}

// Sequences whose experts are held again go on; those that have waited for too long end.
void Scheduler::look_for_homes() {
  if (planner_.num_set_aside() == 0) return;
  const engine::ExpertClient& experts = engine_.experts();
  const TimePoint now = system_clock().now();
  planner_.resume_if([&](const Sequence& sequence) {
    if (experts.has_homes(*sequence.missing)) return true;
    const Duration waited = now - *sequence.waits_since;
    if (waited < options_.expert_wait) return false;
    const Error error = in_context(experts.missing_error(*sequence.missing),
                                   fmt::format("waited {:.1f} s in vain", to_seconds(waited)));
    spdlog::error("a sequence ends: {}", error.message);
    fail_request(sequence.request(), error);
    return false;
  });
  remove_failed();
}

// So many prompt tokens as a step has, so that a flood of prompts holds up nobody for long.
void Scheduler::look_at_experts() {
  if (!preview_) return;
  preview_->look(planner_, options_.limits.max_step_tokens,
                 [this](Sequence& sequence, const Error& error) {
                   spdlog::error("a sequence ends, its router failed: {}", error.message);
                   fail_request(sequence.request(), error);
                 });
  remove_failed();
}

Result<std::vector<engine::SetAside>> Scheduler::compute(const std::vector<Slice>& step) {
  std::vector<engine::StepSequence> sequences;
  for (const Slice& slice : step) {
    const Sequence& sequence = *slice.sequence;
    sequences.push_back(
        {.tokens = std::span(sequence.tokens).subspan(sequence.num_computed, slice.num_tokens),
         .first_position = sequence.num_computed,
         .length_tokens = sequence.tokens.size(),
         .blocks = sequence.blocks.blocks()});
    ask_for_logits(slice, sequences.back());
  }
  return engine_.step(sequences,
                      [&](std::span<const engine::LogitRow> rows) { take_logits(step, rows); });
}

// To choose tokens, among all of a vocabulary, takes long for one thread; their texts do not.
void Scheduler::take_logits(const std::vector<Slice>& step,
                            std::span<const engine::LogitRow> rows) {
  const auto is_for_token = [&](const engine::LogitRow& row) {
    const Slice& slice = step[row.sequence];
    return slice.reaches_end() && row.row + 1 == slice.num_tokens &&
           slice.sequence->request().request.max_tokens > 0;
  };
  const auto has_logits = [](const engine::LogitRow& row) { return !row.logits.empty(); };
  const auto num_with_logits = static_cast<size_t>(std::ranges::count_if(rows, has_logits));
  threads_.parallel_for(num_with_logits, [&](size_t i, size_t) {  // They come first.
    if (is_for_token(rows[i])) step[rows[i].sequence].sequence->choose_token(rows[i].logits);
  });
  for (const engine::LogitRow& row : rows) {
    const Slice& slice = step[row.sequence];
    Sequence& sequence = *slice.sequence;
    if (wants_all_logits(sequence)) {
      sequence.append_prompt_logprob(sequence.num_computed + row.row, row.logits);
    }
    if (is_for_token(row)) {
      if (!has_logits(row)) sequence.take_drawn(row.token);
      sequence.append_chosen();
    } else if (slice.reaches_end() && row.row + 1 == slice.num_tokens) {
      sequence.finish_without_tokens();
    }
  }
}

// Nothing was sampled for them: when they are planned again, all is as if they had not been now.
void Scheduler::put_aside(std::vector<Slice>& step,
                          const std::vector<engine::SetAside>& set_aside) {
  for (const auto& [index, missing] : set_aside) {
    Sequence& sequence = *std::exchange(step[index].sequence, nullptr);
    if (!sequence.waits_since) sequence.waits_since = system_clock().now();
    planner_.set_aside(sequence, missing);
  }
  std::erase_if(step, [](const Slice& slice) { return slice.sequence == nullptr; });
}

void Scheduler::deliver(const std::vector<Slice>& step, TimePoint started) {
  if (step.empty()) return;
  planner_.commit(step);
  const TimePoint now = system_clock().now();
  size_t num_prompt = 0, num_generated = 0;
  for (const auto& [sequence, num_tokens] : step) {
    ActiveRequest& request = sequence->request();
    if (request.first_scheduled == TimePoint{}) {
      request.first_scheduled = started;
      probe_.first_scheduled(started - request.arrival);
    }
    if (const auto since = std::exchange(sequence->waits_since, {})) {
      probe_.waited_for_experts(now - *since);
    }
    const size_t first = sequence->num_computed - num_tokens;
    num_prompt += std::min(sequence->num_computed, sequence->num_prompt) -
                  std::min(first, sequence->num_prompt);
    // The token a step makes is itself computed in the next one.
    if (sequence->num_generated() > 0 && sequence->num_computed + 1 == sequence->tokens.size()) {
      ++num_generated;
      note_token(*sequence, now);
    }
    sequence->flush();
  }
  probe_.step_finished(num_prompt, num_generated);
}

void Scheduler::note_token(Sequence& sequence, TimePoint now) {
  ActiveRequest& request = sequence.request();
  if (request.first_token == TimePoint{}) {
    request.first_token = now;
    probe_.first_token(now - request.arrival);
  } else if (sequence.last_token != TimePoint{}) {
    probe_.next_token(now - sequence.last_token);
  }
  sequence.last_token = request.last_token = now;
}

void Scheduler::remove_finished() {
  for (const auto& sequence : planner_.remove_if([](const Sequence& s) { return s.finished(); })) {
    const bool stopped = sequence->finish_reason() == FinishReason::kStop;
    close_choice(*sequence, stopped ? monitoring::Finish::kStop : monitoring::Finish::kLength);
  }
}

// A choice has ended; with its last one the request has.
void Scheduler::close_choice(const Sequence& sequence, monitoring::Finish finish) {
  ActiveRequest& request = sequence.request();
  request.num_generated_tokens += static_cast<uint32_t>(sequence.num_generated());
  if (--request.num_open_choices > 0) return;
  const TimePoint end = system_clock().now();
  const auto between = [](TimePoint from, TimePoint to) {
    return from == TimePoint{} || to == TimePoint{} ? Duration{} : to - from;
  };
  probe_.request_finished({.finish = finish,
                           .prompt_tokens = static_cast<uint32_t>(sequence.num_prompt),
                           .generation_tokens = request.num_generated_tokens,
                           .num_choices = request.request.num_choices,
                           .max_tokens = request.request.max_tokens,
                           .prefill = between(request.first_scheduled, request.first_token),
                           .decode = between(request.first_token, request.last_token),
                           .total = end - request.arrival});
  std::lock_guard lock(mutex_);
  --num_unfinished_;
  changed_.notify_all();
}

void Scheduler::fail_step(const std::vector<Slice>& step, const Error& error) {
  spdlog::error("a step failed, its {} sequences end: {}", step.size(), error.message);
  for (const Slice& slice : step) fail_request(slice.sequence->request(), error);
  remove_failed();
}

void Scheduler::fail_request(ActiveRequest& request, const Error& error) {
  if (std::exchange(request.failed, true)) return;
  const bool lost = error.code == ErrorCode::kUnavailable ||
                    error.code == ErrorCode::kDeadlineExceeded;  // what a client sees as 503
  if (lost) probe_.request_lost();
  request.listener.on_error(error);
}

void Scheduler::remove_failed() {
  const auto failed = [](const Sequence& s) { return s.request().failed; };
  for (const auto& sequence : planner_.remove_if(failed)) {
    close_choice(*sequence, monitoring::Finish::kError);
  }
}

void Scheduler::drop_cancelled() {
  if (to_cancel_.empty()) return;
  const auto cancelled = [this](const Sequence& sequence) {
    return std::ranges::count(to_cancel_, sequence.request().id) > 0;
  };
  for (const auto& sequence : planner_.remove_if(cancelled)) {
    sequence->request().failed = true;
    close_choice(*sequence, monitoring::Finish::kAbort);
  }
  to_cancel_.clear();
}

void Scheduler::report_state() {
  probe_.set_queues(planner_.num_running(), planner_.num_waiting());
  probe_.set_waiting_for_experts(planner_.num_set_aside());
  const double used = static_cast<double>(pool_.num_blocks() - pool_.num_free());
  probe_.set_cache_usage(used / static_cast<double>(pool_.num_blocks()));
  const BatchPlanner::Counts counts = planner_.take_counts();
  for (size_t i = 0; i < counts.num_preemptions; ++i) probe_.preempted();
  if (counts.num_prefix_tokens_asked > 0) {
    probe_.prefix_looked_up(counts.num_prefix_tokens_asked, counts.num_prefix_tokens_hit);
  }
}

}  // namespace pregate::coordinator
