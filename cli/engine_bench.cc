#include "cli/engine_bench.h"

#include <algorithm>

#include "base/clock.h"

namespace pregate::cli {

using compute::kKvBlockTokens;

EngineBench::EngineBench(engine::Engine& engine, size_t num_kv_blocks, const compute::Draw& draw,
                         uint64_t seed)
    : engine_(engine), num_kv_blocks_(num_kv_blocks), draw_(draw), random_(seed) {
  engine_.set_routing_observer(
      [this](LayerIdx, const router::Decisions& decisions) { count_experts(decisions); });
}

void EngineBench::count_experts(const router::Decisions& decisions) {
  touched_.assign(engine_.config().num_experts, false);
  for (const ExpertId expert : decisions.expert_ids) {
    if (touched_[expert.value]) continue;
    touched_[expert.value] = true;
    ++num_experts_touched_;
  }
}

TokenId EngineBench::random_token() {
  return static_cast<TokenId>(random_.next_below(engine_.config().vocab_size));
}

Result<std::vector<EngineBench::Stream>> EngineBench::make_streams(size_t count, size_t num_tokens,
                                                                   size_t room_tokens) {
  const size_t blocks_each = (room_tokens + kKvBlockTokens - 1) / kKvBlockTokens;
  if (count * blocks_each > num_kv_blocks_) {
    return fail(ErrorCode::kInvalidArgument,
                "{} sequences of {} tokens need {} KV blocks, but --kv-cache-bytes gives {}", count,
                room_tokens, count * blocks_each, num_kv_blocks_);
  }
  std::vector<Stream> streams(count);
  uint32_t next_block = 0;
  for (Stream& stream : streams) {
    for (size_t i = 0; i < num_tokens; ++i) stream.tokens.push_back(random_token());
    for (size_t i = 0; i < blocks_each; ++i) stream.blocks.push_back(next_block++);
  }
  return streams;
}

Status EngineBench::compute(std::vector<Stream>& streams, size_t num_tokens_each) {
  std::vector<engine::StepSequence> step;
  for (const Stream& stream : streams) {
    const size_t count = std::min(num_tokens_each, stream.tokens.size() - stream.num_computed);
    step.push_back({.tokens = std::span(stream.tokens).subspan(stream.num_computed, count),
                    .first_position = stream.num_computed,
                    .length_tokens = stream.tokens.size(),
                    .blocks = stream.blocks,
                    .logits = stream.num_computed + count == stream.tokens.size()
                                  ? engine::LogitRows::kTokenOfLast
                                  : engine::LogitRows::kNone,
                    .draw = draw_});
    step.back().draw.place = random_.next_double();
  }
  PREGATE_TRY(engine_.step_all(step, [](size_t, size_t, std::span<const float>) {}));
  for (size_t s = 0; s < streams.size(); ++s) streams[s].num_computed += step[s].tokens.size();
  return {};
}

Result<BenchRun> EngineBench::prefill(size_t num_tokens, size_t chunk_tokens) {
  PREGATE_ASSIGN(auto streams, make_streams(1, num_tokens, num_tokens));
  num_experts_touched_ = 0;
  BenchRun run{.num_tokens = num_tokens};
  const TimePoint start = system_clock().now();
  for (; streams[0].num_computed < num_tokens; ++run.num_steps) {
    PREGATE_TRY(compute(streams, chunk_tokens));
  }
  run.seconds = to_seconds(system_clock().now() - start);
  run.num_experts_touched = num_experts_touched_;
  return run;
}

Result<BenchRun> EngineBench::decode(size_t batch, size_t context_tokens, size_t num_steps) {
  PREGATE_ASSIGN(auto streams, make_streams(batch, context_tokens, context_tokens + num_steps));
  while (streams[0].num_computed < context_tokens) PREGATE_TRY(compute(streams, 64));
  num_experts_touched_ = 0;
  const TimePoint start = system_clock().now();
  for (size_t step = 0; step < num_steps; ++step) {
    for (Stream& stream : streams) stream.tokens.push_back(random_token());
    PREGATE_TRY(compute(streams, 1));
  }
  return BenchRun{.seconds = to_seconds(system_clock().now() - start),
                  .num_tokens = batch * num_steps,
                  .num_steps = num_steps,
                  .num_experts_touched = num_experts_touched_};
}

BenchRun median_run(std::vector<BenchRun> runs) {
  std::ranges::sort(runs, {}, &BenchRun::seconds);
  return runs[runs.size() / 2];
}

}  // namespace pregate::cli
