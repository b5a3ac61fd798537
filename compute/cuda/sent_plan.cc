#include "compute/cuda/sent_plan.h"

#include "compute/cuda/parcel.h"

namespace pregate::compute::cuda {

Result<SentPlan> send(std::span<const std::byte> encoded, const ExpertsPlan& plan, Stream& stream,
                      Outbox& outbox, const RowSpace* row_space) {
  Parcel parcel(row_space);
  const size_t rows = parcel.bring(encoded);
  const size_t source = parcel.add(std::span(plan.source));
  const size_t gate_up = parcel.add(std::span(plan.gate_up));
  const size_t down = parcel.add(std::span(plan.down));
  const size_t first = parcel.add(std::span(plan.first_place));
  const size_t place = parcel.add(std::span(plan.place));
  const size_t gates = parcel.add(std::span(plan.gates));
  PREGATE_TRY(parcel.send(stream, outbox));
  return SentPlan{.gather = {.encoded = parcel.at<std::byte>(rows),
                             .source = parcel.at<uint32_t>(source),
                             .num_rows = uint32_t(plan.source.size())},
                  .gate_up = {.format = plan.format,
                              .output = GemmOutput::kActivations,
                              .tiles = parcel.at<GemmTile>(gate_up),
                              .num_tiles = uint32_t(plan.gate_up.size()),
                              .max_panels = plan.max_gate_up_panels,
                              .max_rows = plan.max_rows},
                  .down = {.format = plan.format,
                           .tiles = parcel.at<GemmTile>(down),
                           .num_tiles = uint32_t(plan.down.size()),
                           .max_panels = plan.max_down_panels,
                           .max_rows = plan.max_rows},
                  .combine = {.first = parcel.at<uint32_t>(first),
                              .rows = parcel.at<uint32_t>(place),
                              .gates = parcel.at<float>(gates),
                              .num_rows = uint32_t(plan.first_place.size() - 1)},
                  .piece = parcel.sent(),
                  .size_bytes = parcel.size_bytes()};
}

}  // namespace pregate::compute::cuda
