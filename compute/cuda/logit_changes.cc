#include "compute/cuda/logit_changes.h"

#include <algorithm>
#include <vector>

#include "compute/cuda/parcel.h"

namespace pregate::compute::cuda {
namespace {

/// Of lists that travel together, unless those of one row are larger.
constexpr size_t kMaxListBytes = size_t{1} << 20;

size_t list_bytes(const LogitChanges& changes) {
  return changes.biases.size_bytes() + changes.said.size_bytes() + changes.forbidden.size_bytes();
}

/// The leading draws whose lists travel together: one at least.
size_t count_together(std::span<const Draw> draws) {
  size_t count = 1, bytes = list_bytes(draws[0].changes);
  for (; count < draws.size(); ++count) {
    bytes += list_bytes(draws[count].changes);
    if (bytes > kMaxListBytes) break;
  }
  return count;
}

/// The lists of several rows, of one kind, one after the other.
template <typename Item>
class Lists {
 public:
  ListPart add(std::span<const Item> list) {
    const ListPart part{num_items_, uint32_t(list.size())};
    num_items_ += part.count;
    lists_.push_back(list);
    return part;
  }
  void add_to(Parcel& parcel) { piece_ = parcel.add_rows(lists_); }
  const Item* in(const Parcel& sent) const { return sent.at<Item>(piece_); }

 private:
  std::vector<std::span<const Item>> lists_;
  uint32_t num_items_ = 0;
  size_t piece_ = 0;
};

Status change_together(Matrix<float> logits, std::span<const Draw> draws, Stream& stream,
                       Outbox& outbox) {
  Lists<TokenBias> biases;
  Lists<SaidToken> said;
  Lists<uint32_t> forbidden;
  std::vector<RowChanges> rows;
  for (const Draw& draw : draws) {
    const LogitChanges& changes = draw.changes;
    rows.push_back({.biases = biases.add(changes.biases),
                    .said = said.add(changes.said),
                    .forbidden = forbidden.add(changes.forbidden),
                    .penalties = changes.penalties});
  }
  Parcel parcel;
  const size_t sent_rows = parcel.add(std::span<const RowChanges>(rows));
  biases.add_to(parcel);
  said.add_to(parcel);
  forbidden.add_to(parcel);
  PREGATE_TRY(parcel.send(stream, outbox));
  stream.change_logits({.x = logits.data,
                        .stride = uint32_t(logits.stride),
                        .cols = uint32_t(logits.cols),
                        .num_rows = uint32_t(logits.rows),
                        .rows = parcel.at<RowChanges>(sent_rows),
                        .biases = biases.in(parcel),
                        .said = said.in(parcel),
                        .forbidden = forbidden.in(parcel)});
  return {};
}

}  // namespace

Status change_logits(Matrix<float> logits, std::span<const Draw> draws, Stream& stream,
                     Outbox& outbox) {
  for (size_t first = 0; first < draws.size();) {
    const size_t count = count_together(draws.subspan(first));
    const std::span<const Draw> together = draws.subspan(first, count);
    const auto is_empty = [](const Draw& draw) { return draw.changes.empty(); };
    if (!std::ranges::all_of(together, is_empty)) {
      PREGATE_TRY(change_together(logits.slice_rows(first, count), together, stream, outbox));
    }
    first += count;
  }
  return {};
}

}  // namespace pregate::compute::cuda
