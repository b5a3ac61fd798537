#include "protocol/handshake.h"

#include <system_error>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "base/mapped_file.h"
#include "protocol/archive.h"

namespace pregate::protocol {
namespace {

constexpr size_t kMaxSecretFileBytes = 4096;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kWhiteSpace = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(kWhiteSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhiteSpace) - begin + 1);
}

Status check_private(const std::filesystem::path& file) {
  using std::filesystem::perms;
  std::error_code error;
  const perms granted = std::filesystem::status(file, error).permissions();
  if (error) return {};  // Reading it says why.
  if ((granted & (perms::others_read | perms::others_write)) == perms::none) return {};
  return fail(ErrorCode::kInvalidArgument,
              "{}: everyone can read or change this secret; allow only its owner to (chmod 600)",
              file.string());
}

Proof hmac(const Secret& secret, const Bytes& said) {
  Proof proof;
  unsigned int size = 0;
  const auto* data = reinterpret_cast<const unsigned char*>(said.data());
  const auto* done =
      HMAC(EVP_sha256(), secret.bytes().data(), static_cast<int>(secret.bytes().size()), data,
           said.size(), reinterpret_cast<unsigned char*>(proof.data()), &size);
  PREGATE_CHECK(done != nullptr && size == proof.size());
  return proof;
}

/// What both proofs cover. The labels keep one side's proof from being the other's.
Bytes covered(const std::string& label, const Nonce& challenge, Join join) {
  join.proof = {};
  const Bytes header = encode_header(join);
  Bytes bytes;
  Encoder encoder(bytes);
  encoder("label", label);
  encoder("challenge", challenge);
  bytes.insert(bytes.end(), header.begin(), header.end());
  return bytes;
}

}  // namespace

Result<Secret> Secret::read(const std::filesystem::path& file) {
  PREGATE_TRY(check_private(file));
  PREGATE_ASSIGN(const std::string text, read_file(file, kMaxSecretFileBytes));
  const std::string_view bytes = trimmed(text);
  if (bytes.size() < kMinSecretBytes) {
    return fail(ErrorCode::kInvalidArgument, "{}: a secret of {} bytes; it needs at least {}",
                file.string(), bytes.size(), kMinSecretBytes);
  }
  return Secret(std::string(bytes));
}

Nonce make_nonce() {
  Nonce nonce;
  const int done =
      RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), static_cast<int>(nonce.size()));
  PREGATE_CHECK(done == 1);
  return nonce;
}

Proof prove_worker(const Secret& secret, const Nonce& challenge, const Join& join) {
  return hmac(secret, covered("pregate worker", challenge, join));
}

Proof prove_coordinator(const Secret& secret, const Nonce& challenge, const Join& join,
                        WorkerId worker) {
  Bytes bytes = covered("pregate coordinator", challenge, join);
  Encoder encoder(bytes);
  encoder("worker", worker);
  return hmac(secret, bytes);
}

bool equal(const Proof& a, const Proof& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace pregate::protocol
