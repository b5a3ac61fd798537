// What fuzzers of messages share.
#pragma once

#include <cstdlib>
#include <cstring>

#include "protocol/codec.h"

namespace pregate::protocol {

/// A finding, in every build.
inline void require(bool condition) {
  if (!condition) std::abort();
}

inline bool same(ByteView a, ByteView b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace pregate::protocol
