#include "coordinator/dispatch/row_exchange.h"

#include <algorithm>

#include "compute/addends.h"

namespace pregate::coordinator {
namespace {

using compute::EncodedRows;
using compute::Matrix;
using transport::Payload;

size_t table_bytes(const Share& share) {
  return protocol::row_data_offset(share.table.experts.size(), share.table.rows.size());
}

size_t rows_bytes(const Share& share, const EncodedRows& rows) {
  return share.batch_rows.size() * compute::encoded_row_bytes(rows.format, rows.cols);
}

const float* numbers_at(const std::byte* place) { return reinterpret_cast<const float*>(place); }

/// So that whatever comes after it begins where a payload does.
size_t room_for(size_t bytes) {
  constexpr size_t kUnit = transport::kPayloadAlignment;
  return (bytes + kUnit - 1) / kUnit * kUnit;
}

bool has_tail(const Payload& payload) { return payload.tail() != nullptr; }

/// `starts`: where the rows of each payload begin.
compute::Addends place(std::span<const Addend> addends, std::span<const float* const> starts,
                       size_t cols) {
  compute::Addends placed;
  placed.reserve(addends.size());
  for (const Addend& addend : addends) {
    placed.add(addend.row, starts[addend.payload] + addend.index * cols);
  }
  return placed;
}

}  // namespace

RowExchange::~RowExchange() { drop_added(); }

Payload RowExchange::pack(engine::DispatchTicket ticket, const EncodedRows& rows,
                          const Share& share, const std::function<bool(size_t bytes)>& takes_tail) {
  drop_added();
  if (memory_ != nullptr && takes_tail(rows_bytes(share, rows))) {
    if (auto tail = memory_->allocate(rows_bytes(share, rows))) {
      return pack_tail(rows, share, std::move(*tail));
    }
  }
  const size_t offset = table_bytes(share), size = offset + rows_bytes(share, rows);
  const auto data = transport::allocate_payload(size);
  protocol::encode_table(share.table, data.get());
  backend_.take_encoded(on_host(ticket, rows), share.batch_rows, data.get() + offset);
  return {data, size};
}

Payload RowExchange::pack_tail(const EncodedRows& rows, const Share& share,
                               std::shared_ptr<std::byte[]> tail) {
  const auto head = transport::allocate_payload(table_bytes(share));
  backend_.take_encoded(rows, share.batch_rows, tail.get());
  protocol::encode_table(share.table, head.get());
  backend_.wait();
  return {Payload(head, table_bytes(share)), {std::move(tail), rows_bytes(share, rows), memory_}};
}

/// The same rows, brought once to be sent to several.
const EncodedRows& RowExchange::on_host(engine::DispatchTicket ticket, const EncodedRows& rows) {
  if (copied_ != ticket) {
    host_rows_ = rows_copy_.read(rows);
    copied_ = ticket;
  }
  return host_rows_;
}

Status RowExchange::add_up(std::span<const Payload> payloads, std::span<const Addend> addends,
                           Matrix<float> out) {
  drop_added();
  if (std::ranges::none_of(payloads, has_tail)) return add_up_on_host(payloads, addends, out);
  const auto starts = in_row_memory(payloads);
  if (!starts) return add_up_on_host(payloads, addends, out);  // for want of room
  backend_.sum_rows(place(addends, *starts, out.cols).by_row(out.rows), out);
  added_.assign(payloads.begin(), payloads.end());
  return {};
}

Status RowExchange::add_up_on_host(std::span<const Payload> payloads,
                                   std::span<const Addend> addends, Matrix<float> out) {
  std::vector<Payload> here;
  std::vector<const float*> starts;
  for (const Payload& payload : payloads) {
    PREGATE_ASSIGN(Payload on_host, payload.on_host());
    starts.push_back(numbers_at(on_host.bytes().data()));
    here.push_back(std::move(on_host));
  }
  backend_.sum_rows(place(addends, starts, out.cols).by_row(out.rows), sums_copy_.begin(out));
  sums_copy_.send(out);
  return {};
}

/// Where each begins; those that came to the host are brought there.
Result<std::vector<const float*>> RowExchange::in_row_memory(std::span<const Payload> payloads) {
  size_t bytes = 0;
  for (const Payload& payload : payloads) bytes += room_for(payload.head().size());
  PREGATE_ASSIGN(std::byte * upload, uploads_.take(bytes));
  std::vector<const float*> starts;
  for (const Payload& payload : payloads) {
    if (payload.tail() != nullptr) {
      starts.push_back(numbers_at(payload.tail()->data.get()));
      continue;
    }
    starts.push_back(numbers_at(upload));
    backend_.write(upload, payload.bytes().data(), payload.size());
    upload += room_for(payload.size());
  }
  return starts;
}

void RowExchange::drop_added() {
  if (added_.empty()) return;
  backend_.wait();
  added_.clear();
}

}  // namespace pregate::coordinator
