// The versions of the libraries that carry bytes.
#pragma once

#include <string>

namespace pregate::transport {

/// Empty versions: the build does without it.
struct LibraryVersion {
  std::string name;
  std::string built_with;  ///< "4.1.4"; the headers'.
  std::string running;     ///< The one that was found when this process started.
};

LibraryVersion mpi_library();
LibraryVersion ucx_library();

}  // namespace pregate::transport
