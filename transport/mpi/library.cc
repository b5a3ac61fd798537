#include <mpi.h>

#include "transport/libraries.h"

namespace pregate::transport {
namespace {

/// "4.1.4" of "Open MPI v4.1.4, package: ..."; the whole line where it is not like that.
std::string version_in(const std::string& line) {
  const size_t first = line.find_first_of("0123456789");
  if (first == std::string::npos) return line;
  return line.substr(first, line.find_first_not_of("0123456789.", first) - first);
}

}  // namespace

LibraryVersion mpi_library() {
  char line[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int size = 0;
  // May be called before MPI_Init.
  MPI_Get_library_version(line, &size);
  return {"MPI", PREGATE_MPI_VERSION, version_in(line)};
}

}  // namespace pregate::transport
