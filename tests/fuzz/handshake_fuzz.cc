// A handshake into which somebody without the secret puts any bytes: as a message of either side,
// or as changes to an honest one. Nothing but the honest messages themselves may be believed.
#include <algorithm>
#include <cstdint>

#include "protocol/handshake.h"
#include "tests/fuzz/require.h"

namespace {

using namespace pregate;
using namespace pregate::protocol;

Nonce filled(uint8_t value) {
  Nonce nonce;
  nonce.fill(std::byte{value});
  return nonce;
}

/// What two honest processes say, with nonces that are always the same so that findings are too.
struct Honest {
  Secret secret{"the secret of this fuzzer"};
  Challenge challenge{filled(1)};
  Join join{filled(2), {}, 3, 4, 1, 5, {6.5, 7, 8, 9, "cpu"}, "worker-1", "host"};
  Welcome welcome{{}, WorkerId(1)};
  Bytes join_header, welcome_header;

  Honest() {
    join.proof = prove_worker(secret, challenge.nonce, join);
    welcome.proof = prove_coordinator(secret, challenge.nonce, join, welcome.worker);
    join_header = encode_header(join);
    welcome_header = encode_header(welcome);
  }
};

const Honest& honest() {
  static const Honest kHonest;
  return kHonest;
}

void coordinator_hears(ByteView header) {
  const auto join = decode_join(header);
  if (!join) return;
  const auto expected = [&](const Nonce& challenge) {
    return prove_worker(honest().secret, challenge, *join);
  };
  const bool believed = equal(join->proof, expected(honest().challenge.nonce));
  require(believed == same(header, honest().join_header));
  require(!equal(join->proof, expected(filled(9))));
}

void worker_answers(const Challenge& challenge) {
  Join join = honest().join;
  join.proof = prove_worker(honest().secret, challenge.nonce, join);
  const bool same_challenge = challenge.nonce == honest().challenge.nonce;
  require(same(encode_header(join), honest().join_header) == same_challenge);
  coordinator_hears(encode_header(join));
}

void worker_hears(ByteView header) {
  if (const auto challenge = decode_challenge(header)) worker_answers(*challenge);
  if (const auto welcome = decode_welcome(header)) {
    const Proof expected = prove_coordinator(honest().secret, honest().challenge.nonce,
                                             honest().join, welcome->worker);
    require(equal(welcome->proof, expected) == same(header, honest().welcome_header));
  }
  if (const auto refusal = decode_refusal(header)) {
    require(refusal->error.message.size() <= kMaxTextBytes);
  }
}

Bytes changed(Bytes header, ByteView changes) {
  for (size_t i = 0; i < std::min(header.size(), changes.size()); ++i) header[i] ^= changes[i];
  return header;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  coordinator_hears(bytes);
  worker_hears(bytes);
  coordinator_hears(changed(honest().join_header, bytes));
  worker_hears(changed(honest().welcome_header, bytes));
  return 0;
}
