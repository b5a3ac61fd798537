// Stands in for mpi.cc in a build without MPI.
#include "transport/mpi/mpi.h"

namespace pregate::transport {

bool launched_by_mpi() { return false; }

Result<std::unique_ptr<Transport>> make_mpi_transport(const MpiOptions&) {
  return fail(ErrorCode::kUnimplemented,
              "this build has no MPI: install libopenmpi-dev and build again");
}

}  // namespace pregate::transport
