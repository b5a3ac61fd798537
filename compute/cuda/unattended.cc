// Steps without the host: experts that rows are routed to on the device, and work done again as it
// was recorded.
#include "compute/unattended.h"

#include <algorithm>

#include "base/check.h"
#include "compute/cuda/attention_plan.h"
#include "compute/cuda/backend.h"
#include "compute/cuda/kept_tables.h"
#include "compute/cuda/sent_plan.h"

namespace pregate::compute::cuda {

/// Where each expert's weights are, in row memory.
struct CudaExpertGroup final : ExpertGroup {
  const ExpertAddress* addresses() const {
    return reinterpret_cast<const ExpertAddress*>(memory->data());
  }

  const CudaExpert* first = nullptr;  ///< All are of its shape.
  size_t num_experts = 0;
  std::unique_ptr<RowMemory> memory;
};

namespace {

/// Of more, kernels are chosen better by who knows how many go to an expert.
constexpr size_t kMaxRoutedRows = 1024;
/// For more, launching is done long before the work.
constexpr size_t kMaxRecordedRows = 64;

/// Tables one after the other in memory that is taken at once.
class TableLayout {
 public:
  template <typename T>
  size_t add(size_t count) {
    const size_t offset = size_bytes_;
    size_bytes_ += round_up(count * sizeof(T), kAlignment);
    return offset;
  }
  size_t size_bytes() const { return size_bytes_; }

 private:
  static constexpr size_t kAlignment = 16;
  size_t size_bytes_ = 0;
};

}  // namespace

size_t CudaBackend::max_experts() const { return kMaxRoutedExperts; }

Result<std::unique_ptr<ExpertGroup>> CudaBackend::group(
    std::span<const PackedExpert* const> experts) {
  PREGATE_CHECK(!experts.empty() && experts.size() <= kMaxRoutedExperts);
  const auto& first = dynamic_cast<const CudaExpert&>(*experts.front());
  std::vector<ExpertAddress> addresses;
  for (const PackedExpert* const expert : experts) {
    const auto& one = dynamic_cast<const CudaExpert&>(*expert);
    PREGATE_CHECK(one.format() == first.format() && one.hidden == first.hidden &&
                  one.intermediate == first.intermediate);
    addresses.push_back({one.gate_up(), one.down()});
  }
  const size_t bytes = addresses.size() * sizeof(ExpertAddress);
  auto group = std::make_unique<CudaExpertGroup>();
  group->first = &first;
  group->num_experts = experts.size();
  PREGATE_ASSIGN(group->memory, allocate_rows(bytes));
  write(group->memory->data(), addresses.data(), bytes);
  return group;
}

// Not in slices, so that all must have room at once.
size_t CudaBackend::max_rows(const ExpertGroup& group, size_t k) const {
  const auto& cuda_group = dynamic_cast<const CudaExpertGroup&>(group);
  const size_t num_places = row_bytes_ / product_bytes(*cuda_group.first);
  const size_t padding = cuda_group.num_experts * (kAtomRows - 1);
  return num_places > padding ? std::min(kMaxRoutedRows, (num_places - padding) / k) : 0;
}

void CudaBackend::routed_experts(const EncodedRows& x, const ExpertGroup& group, const TopK& chosen,
                                 Matrix<float> out) {
  const auto& cuda_group = dynamic_cast<const CudaExpertGroup&>(group);
  PREGATE_CHECK(x.rows <= kMaxRoutedRows && x.cols == cuda_group.first->hidden);
  PREGATE_CHECK(out.rows == x.rows && out.cols == x.cols);
  PREGATE_CHECK(arithmetic_of(cuda_group.first->format()) == arithmetic_of(x.format));
  PREGATE_CHECK(are_here({x.data, chosen.ids.data(), chosen.gates.data(), out.data}));
  if (x.rows > 0) require(try_routed_experts(x, cuda_group, chosen, out));
}

Status CudaBackend::try_routed_experts(const EncodedRows& x, const CudaExpertGroup& group,
                                       const TopK& chosen, Matrix<float> out) {
  PREGATE_ASSIGN(SentPlan plan, route(group, x.rows, chosen));
  plan.gather.encoded = x.data;
  return try_plan(x, plan, out);
}

Result<SentPlan> CudaBackend::route(const CudaExpertGroup& group, size_t num_rows,
                                    const TopK& chosen) {
  const size_t num_choices = chosen.ids.size(), k = num_choices / num_rows;
  PREGATE_CHECK(k > 0 && k * num_rows == num_choices && chosen.gates.size() == num_choices);
  const size_t most_experts = std::min(num_choices, group.num_experts);
  const size_t num_tiles = most_experts + num_choices / kMaxTileRows;
  const size_t num_places = round_up(num_choices + most_experts * (kAtomRows - 1), kAtomRows);
  const auto max_rows = uint32_t(std::min(num_rows, kMaxTileRows));
  TableLayout layout;
  const size_t gate_up = layout.add<GemmTile>(num_tiles), down = layout.add<GemmTile>(num_tiles);
  const size_t source = layout.add<uint32_t>(num_places);
  const size_t first = layout.add<uint32_t>(num_rows + 1);
  const size_t place = layout.add<uint32_t>(num_choices), gates = layout.add<float>(num_choices);
  PREGATE_ASSIGN(std::byte* const tables, routes_.take(layout.size_bytes()));
  auto [gate_up_shape, down_shape] = tiles_of(*group.first);
  const RouteArgs args{.ids = chosen.ids.data(),
                       .chosen_gates = chosen.gates.data(),
                       .num_rows = uint32_t(num_rows),
                       .k = uint32_t(k),
                       .experts = group.addresses(),
                       .num_experts = uint32_t(group.num_experts),
                       .gate_up_shape = gate_up_shape,
                       .down_shape = down_shape,
                       .source = reinterpret_cast<uint32_t*>(tables + source),
                       .num_places = uint32_t(num_places),
                       .gate_up = reinterpret_cast<GemmTile*>(tables + gate_up),
                       .down = reinterpret_cast<GemmTile*>(tables + down),
                       .num_tiles = uint32_t(num_tiles),
                       .first = reinterpret_cast<uint32_t*>(tables + first),
                       .place = reinterpret_cast<uint32_t*>(tables + place),
                       .gates = reinterpret_cast<float*>(tables + gates)};
  stream_->route(args);
  const WeightFormat format = group.first->format();
  return SentPlan{.gather = {.source = args.source, .num_rows = args.num_places},
                  .gate_up = {.format = format,
                              .output = GemmOutput::kActivations,
                              .tiles = args.gate_up,
                              .num_tiles = args.num_tiles,
                              .max_panels = gate_up_shape.num_panels,
                              .max_rows = max_rows},
                  .down = {.format = format,
                           .tiles = args.down,
                           .num_tiles = args.num_tiles,
                           .max_panels = down_shape.num_panels,
                           .max_rows = max_rows},
                  .combine = {.first = args.first,
                              .rows = args.place,
                              .gates = args.gates,
                              .num_rows = args.num_rows},
                  .piece = {},
                  .size_bytes = 0};
}

void CudaBackend::begin_read(void* to, const void* rows, size_t bytes) {
  if (!row_space_->is_pinned(to)) return read(to, rows, bytes);
  stream_->download(to, rows, bytes);
}

void CudaBackend::repeat(std::span<const uint64_t> key, const KvStorage& kv,
                         std::span<const SequenceRows> sequences,
                         const std::function<void()>& work) {
  if (count_rows(sequences) > kMaxRecordedRows) return work();
  const auto whole_key = recording_key(key, kv.num_blocks(), sequences);
  require(whole_key ? try_repeat(*whole_key, work) : fail(whole_key.error()));
}

// What has never been done is not recorded: it makes tables and takes memory, of which a recording
// must be able to count on finding the same again.
Status CudaBackend::try_repeat(const Recordings::Key& key, const std::function<void()>& work) {
  PREGATE_ASSIGN(Recordings::Entry* const entry, recordings_.at(key));
  const uint64_t num_sent = outbox_.num_taken(), num_waits = num_waits_;
  const auto is_on_device = [&] {
    return outbox_.num_taken() == num_sent && num_waits_ == num_waits;
  };
  if (entry->recording == nullptr && !entry->can_be_recorded) {
    work();
    entry->can_be_recorded = is_on_device();
    return {};
  }
  if (entry->recording == nullptr) {
    is_recording_ = true;
    auto recording = stream_->record(work);
    is_recording_ = false;
    PREGATE_ASSIGN(entry->recording, std::move(recording));
    PREGATE_CHECK(is_on_device());
  }
  stream_->replay(*entry->recording);
  return {};
}

Result<Recordings::Key> CudaBackend::recording_key(std::span<const uint64_t> key,
                                                   size_t num_kv_blocks,
                                                   std::span<const SequenceRows> sequences) {
  Recordings::Key whole;
  for (const uint64_t word : key) whole.add(word);
  whole.add(row_space_->version());
  for (const auto* const scratch :
       {&rows_, &numbers_, &activations_, &products_, &out_, &routes_}) {
    whole.add(scratch->data());
  }
  for (const auto& slots : slots_) {
    if (slots->num_blocks() != num_kv_blocks) continue;
    PREGATE_ASSIGN(const uint32_t* const table, slots->of(sequences, outbox_));
    whole.add(table);
  }
  for (const auto& plan : plans_) {
    if (plan->key().num_blocks != num_kv_blocks) continue;
    PREGATE_ASSIGN(const AttentionTables tables, plan->of(sequences, outbox_));
    whole.add(tables);
  }
  return whole;
}

}  // namespace pregate::compute::cuda
