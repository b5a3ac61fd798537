// Stands in for library.cc in a build without MPI.
#include "transport/libraries.h"

namespace pregate::transport {

LibraryVersion mpi_library() { return {"MPI", "", ""}; }

}  // namespace pregate::transport
