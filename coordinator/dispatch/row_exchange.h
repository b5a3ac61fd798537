// Rows on their way from an engine's row memory to workers, and their sums on the way back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "compute/backend.h"
#include "coordinator/dispatch/split_batch.h"
#include "engine/expert_client.h"
#include "transport/payload.h"

namespace pregate::coordinator {

/// Of the rows that came, one that a row of the sums gets.
struct Addend {
  uint32_t row = 0;      ///< Of the sums.
  uint32_t payload = 0;  ///< Of those that came.
  size_t index = 0;      ///< The row in there.
};

/// What goes from device to device stays in their memories; all else passes through the host's.
/// Used by the engine's thread.
class RowExchange {
 public:
  /// `backend` is the engine's, and outlives it. `memory`: its shared memory, if payloads may have
  /// tails; else null.
  RowExchange(compute::Backend& backend, std::shared_ptr<DeviceMemory> memory)
      : backend_(backend),
        memory_(std::move(memory)),
        rows_copy_(backend),
        sums_copy_(backend),
        uploads_(backend) {}
  ~RowExchange();

  /// A request's payload: the share's table, then its rows out of the batch's, which lie in row
  /// memory; these as a tail, if who gets it takes one of so many bytes and there is room for it.
  /// `ticket` tells batches apart.
  transport::Payload pack(engine::DispatchTicket ticket, const compute::EncodedRows& rows,
                          const Share& share, const std::function<bool(size_t bytes)>& takes_tail);
  /// Sets out [n, h], in row memory, to what is added up for each row, in the order of `addends`;
  /// to 0 without any. Payloads are rows of h numbers, with no head if they have a tail. Error:
  /// kUnavailable, the device is lost.
  Status add_up(std::span<const transport::Payload> payloads, std::span<const Addend> addends,
                compute::Matrix<float> out);

 private:
  transport::Payload pack_tail(const compute::EncodedRows& rows, const Share& share,
                               std::shared_ptr<std::byte[]> tail);
  const compute::EncodedRows& on_host(engine::DispatchTicket ticket,
                                      const compute::EncodedRows& rows);
  Result<std::vector<const float*>> in_row_memory(std::span<const transport::Payload> payloads);
  Status add_up_on_host(std::span<const transport::Payload> payloads,
                        std::span<const Addend> addends, compute::Matrix<float> out);
  void drop_added();

  compute::Backend& backend_;
  const std::shared_ptr<DeviceMemory> memory_;
  compute::HostCopy rows_copy_, sums_copy_;
  compute::EncodedRows host_rows_;  // in rows_copy_
  std::optional<engine::DispatchTicket> copied_;
  compute::RowBuffer uploads_;
  std::vector<transport::Payload> added_;  // the device may not be done with them
};

}  // namespace pregate::coordinator
