// How processes show each other that they know the cluster's secret without sending it.
//
// The coordinator sends a nonce; the worker answers with one of its own and with an HMAC-SHA256
// under the secret over both nonces and all that it says of itself; the coordinator with one over
// the same and the id it gives (the bytes are in protocol/WIRE.md). Nonces are fresh, so that an
// answer that was overheard is worth nothing later. Afterwards messages are neither signed nor
// encrypted: this keeps strangers and mistakes out, not someone who can change packets. Whoever
// dials or overhears can try secrets at home, so a secret should be random.
#pragma once

#include <filesystem>

#include "protocol/messages.h"

namespace pregate::protocol {

inline constexpr size_t kMinSecretBytes = 16;

/// Shared by all processes of a cluster. Never printed.
class Secret {
 public:
  /// The empty secret: for processes that one launch (mpirun) vouches for.
  Secret() = default;
  /// White space at both ends is not part of it. kInvalidArgument, with the file's name, if it is
  /// shorter than kMinSecretBytes, or if everyone can read or change it.
  static Result<Secret> read(const std::filesystem::path& file);
  explicit Secret(std::string bytes) : bytes_(std::move(bytes)) {}

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

Nonce make_nonce();

/// `join.proof` is not read: it is what this gives.
Proof prove_worker(const Secret& secret, const Nonce& challenge, const Join& join);
Proof prove_coordinator(const Secret& secret, const Nonce& challenge, const Join& join,
                        WorkerId worker);
/// In a time that does not depend on where they differ.
bool equal(const Proof& a, const Proof& b);

}  // namespace pregate::protocol
