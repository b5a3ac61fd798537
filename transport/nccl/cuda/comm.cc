#include "transport/nccl/cuda/comm.h"

#include <cstring>

namespace pregate::transport {
namespace {

static_assert(sizeof(LaneKey) == sizeof(ncclUniqueId));

/// Multiprocessors that a lane may take from the experts, and a few MiB of device memory each. Four
/// keep busy the way through host memory, and networks between hosts.
constexpr int kMaxCtas = 4;

}  // namespace

Result<std::unique_ptr<Comm>> Comm::join(const LaneKey& key, int rank, int num_ranks,
                                         const Patience& patience) {
  ncclUniqueId id;
  std::memcpy(&id, key.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.minCTAs = 1;
  config.maxCTAs = kMaxCtas;
  PREGATE_TRY(patience.check("joining"));
  std::unique_ptr<Comm> comm(new Comm);
  const ncclResult_t result = ncclCommInitRankConfig(&comm->comm_, num_ranks, id, rank, &config);
  PREGATE_TRY(comm->settle(result, "joining", patience));
  return comm;
}

Comm::~Comm() {
  if (comm_ != nullptr) ncclCommAbort(comm_);
}

Status Comm::settle(ncclResult_t result, std::string_view what, const Patience& patience) const {
  for (Pause pause; result == ncclInProgress; pause.wait()) {
    PREGATE_TRY(patience.check(what));
    PREGATE_TRY(check(ncclCommGetAsyncError(comm_, &result), comm_, what));
  }
  return check(result, comm_, what);
}

Status Comm::send(const std::byte* from, size_t bytes, int to, cudaStream_t stream,
                  const Patience& patience) {
  return settle(ncclSend(from, bytes, ncclInt8, to, comm_, stream), "sending", patience);
}

Status Comm::receive(std::byte* to, size_t bytes, int from, cudaStream_t stream,
                     const Patience& patience) {
  return settle(ncclRecv(to, bytes, ncclInt8, from, comm_, stream), "receiving", patience);
}

Status Comm::echo(const std::byte* from, std::byte* to, size_t bytes, int self, cudaStream_t stream,
                  const Patience& patience) {
  PREGATE_TRY(check(ncclGroupStart(), comm_, "sending to itself"));
  const ncclResult_t sent = ncclSend(from, bytes, ncclInt8, self, comm_, stream);
  const ncclResult_t received = ncclRecv(to, bytes, ncclInt8, self, comm_, stream);
  // Always, as the thread would else stay in the group.
  const ncclResult_t ended = ncclGroupEnd();
  for (const ncclResult_t result : {sent, received, ended}) {
    PREGATE_TRY(settle(result, "sending to itself", patience));
  }
  return {};
}

Status Comm::wait(cudaEvent_t event, const Patience& patience) const {
  for (Pause pause;; pause.wait()) {
    const cudaError_t state = cudaEventQuery(event);
    // Also when it is done: what a communicator that broke has left in memory is no payload. That
    // the other end's broke may go unnoticed here (lane.h).
    PREGATE_TRY(check_progress());
    if (state != cudaErrorNotReady) return check(state, "waiting for the device");
    PREGATE_TRY(patience.check("waiting for the other end"));
  }
}

Status Comm::check_progress() const {
  ncclResult_t result = ncclSuccess;
  PREGATE_TRY(check(ncclCommGetAsyncError(comm_, &result), comm_, "looking for errors"));
  return result == ncclInProgress ? Status() : check(result, comm_, "transferring");
}

}  // namespace pregate::transport
