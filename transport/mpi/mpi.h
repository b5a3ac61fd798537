// MPI as a transport: the processes of one mpirun or srun.
//
// Written against Open MPI 4.1, which reports no death of a rank. Survivors go on only under
// `mpirun --enable-recovery`; see StopOptions::peers_lost and Transport::needs_hard_exit().
#pragma once

#include <memory>

#include "transport/transport.h"

namespace pregate::transport {

struct MpiOptions {
  size_t max_in_flight_bytes = kDefaultInFlightBytes;
  /// MPI ends by a meeting of all ranks, which one that is stuck would hold up for ever.
  Duration finalize_timeout = std::chrono::seconds(5);
};

/// Whether a launcher started this process as a rank of an MPI job with other ranks.
bool launched_by_mpi();

/// Joins the MPI job; at most once per process. Peers are numbered by rank. kUnimplemented in a
/// build without MPI.
Result<std::unique_ptr<Transport>> make_mpi_transport(const MpiOptions& options);

}  // namespace pregate::transport
