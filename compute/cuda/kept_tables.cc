#include "compute/cuda/kept_tables.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "compute/cuda/parcel.h"

namespace pregate::compute::cuda {
namespace {

std::vector<uint32_t> slots_of(std::span<const SequenceRows> sequences, size_t num_blocks) {
  std::vector<uint32_t> slots;
  for (const SequenceRows& sequence : sequences) {
    for (size_t i = 0; i < sequence.num_rows; ++i) {
      const size_t position = sequence.first_position + i;
      PREGATE_CHECK(position / kKvBlockTokens < sequence.blocks.size());
      const uint32_t block = sequence.blocks[position / kKvBlockTokens];
      PREGATE_CHECK(block < num_blocks);
      slots.push_back(uint32_t(block * kKvBlockTokens + position % kKvBlockTokens));
    }
  }
  return slots;
}

/// A device would read whatever lies there. What no row sees may be anything.
void check_blocks(const SequenceRows& sequence, size_t window, size_t num_blocks) {
  if (sequence.num_rows == 0) return;
  const size_t end = sequence.first_position + sequence.num_rows;
  const size_t first_end = sequence.first_position + 1;
  const size_t first = window > 0 && first_end > window ? first_end - window : 0;
  PREGATE_CHECK((end - 1) / kKvBlockTokens < sequence.blocks.size());
  for (size_t i = first / kKvBlockTokens; i <= (end - 1) / kKvBlockTokens; ++i) {
    PREGATE_CHECK(sequence.blocks[i] < num_blocks);
  }
}

/// At least `count`, by a quarter more at most.
size_t count_in_steps(size_t count) {
  constexpr size_t kLeast = 16;
  if (count == 0) return 0;
  return round_up(count, std::max(kLeast, std::bit_floor(count) / 4));
}

std::vector<AttentionUnit> padded(std::vector<AttentionUnit> units) {
  units.resize(count_in_steps(units.size()), {.tile = kNoTile, .split = 0});
  return units;
}

}  // namespace

bool KnownSequences::are(std::span<const SequenceRows> sequences) const {
  if (sequences.size() != sequences_.size()) return false;
  auto blocks = blocks_.begin();
  for (size_t i = 0; i < sequences.size(); ++i) {
    const auto& [first_row, num_rows, first_position, others] = sequences[i];
    if (sequences_[i] != Sequence{num_rows, first_position, others.size()}) return false;
    if (!std::equal(others.begin(), others.end(), blocks)) return false;
    blocks += static_cast<ptrdiff_t>(others.size());
  }
  return true;
}

void KnownSequences::become(std::span<const SequenceRows> sequences) {
  sequences_.clear();
  blocks_.clear();
  for (const auto& [first_row, num_rows, first_position, blocks] : sequences) {
    sequences_.push_back({num_rows, first_position, blocks.size()});
    blocks_.insert(blocks_.end(), blocks.begin(), blocks.end());
  }
}

Result<const uint32_t*> KeptSlots::of(std::span<const SequenceRows> sequences, Outbox& outbox) {
  if (known_.are(sequences)) return slots_;
  const std::vector<uint32_t> slots = slots_of(sequences, num_blocks_);
  Parcel parcel;
  const size_t table = parcel.add(std::span(slots));
  PREGATE_TRY(parcel.send_to(stream_, outbox, memory_));
  slots_ = parcel.at<uint32_t>(table);
  known_.become(sequences);
  return slots_;
}

Result<AttentionTables> KeptPlan::of(std::span<const SequenceRows> sequences, Outbox& outbox) {
  if (known_.are(sequences)) return tables_;
  for (const SequenceRows& sequence : sequences) {
    check_blocks(sequence, key_.heads.window, key_.num_blocks);
  }
  PREGATE_TRY(send(plan_attention(sequences, key_.heads), outbox));
  known_.become(sequences);
  return tables_;
}

Status KeptPlan::send(const AttentionPlan& plan, Outbox& outbox) {
  const std::vector<AttentionUnit> few_units = padded(plan.few), many_units = padded(plan.many);
  Parcel parcel;
  const size_t tiles = parcel.add(std::span(plan.tiles));
  const size_t few = parcel.add(std::span(few_units));
  const size_t many = parcel.add(std::span(many_units));
  const size_t first_partial = parcel.add(std::span(plan.first_partial));
  const size_t blocks = parcel.add(std::span(plan.blocks));  // last, as they differ most
  PREGATE_TRY(parcel.send_to(stream_, outbox, memory_));
  tables_ = {.num_rows = plan.num_rows(),
             .num_partials = count_in_steps(plan.num_partials()),
             .tiles = parcel.at<AttentionTile>(tiles),
             .few = {.units = parcel.at<AttentionUnit>(few),
                     .num_units = uint32_t(few_units.size()),
                     .max_queries = plan.max_few},
             .many = {.units = parcel.at<AttentionUnit>(many),
                      .num_units = uint32_t(many_units.size()),
                      .max_queries = plan.max_many},
             .blocks = parcel.at<uint32_t>(blocks),
             .first_partial = parcel.at<uint32_t>(first_partial)};
  return {};
}

}  // namespace pregate::compute::cuda
