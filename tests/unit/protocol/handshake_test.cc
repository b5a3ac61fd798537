#include "protocol/handshake.h"

#include <fstream>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "protocol/codec.h"

namespace pregate::protocol {
namespace {

Nonce filled(uint8_t value) {
  Nonce nonce;
  nonce.fill(std::byte{value});
  return nonce;
}

Join sample_join() {
  Join join;
  join.nonce = filled(2);
  join.incarnation = 3;
  join.model_fingerprint = 4;
  join.weight_format = 1;
  join.pid = 5;
  join.capacity = {6.5, 7, 8, 9, "cpu"};
  join.name = "worker-1";
  join.host = "host";
  return join;
}

const Secret kSecret("a secret of the cluster");

std::string hex(const Proof& proof) {
  std::string text;
  for (const std::byte b : proof) text += fmt::format("{:02x}", static_cast<int>(b));
  return text;
}

// Made with Python's hmac from the description in WIRE.md.
TEST(Handshake, ProofsAreAsDocumented) {
  EXPECT_EQ(hex(prove_worker(kSecret, filled(1), sample_join())),
            "3d2138532f2696fbe58f8d9ad6d89560ed1ded32c55f133003a8a10687f17d71");
  EXPECT_EQ(hex(prove_coordinator(kSecret, filled(1), sample_join(), WorkerId(10))),
            "d03dcf91b99804dae7fa5b7b28cc62b569dc3ba7bd59ee56cfed1467c2c1bd55");
  EXPECT_EQ(hex(prove_worker(Secret(), filled(1), sample_join())),
            "b8620d5bc9b09d8a9b6e0b22d5dac51544262ee9197a1ef423686109630b2f49");
}

TEST(Handshake, BothSidesAgree) {
  const Nonce challenge = make_nonce();
  Join join = sample_join();
  join.nonce = make_nonce();
  join.proof = prove_worker(kSecret, challenge, join);
  const auto received = decode_join(encode_header(join));
  ASSERT_TRUE(received);
  EXPECT_TRUE(equal(received->proof, prove_worker(kSecret, challenge, *received)));
  EXPECT_TRUE(equal(prove_coordinator(kSecret, challenge, *received, WorkerId(1)),
                    prove_coordinator(kSecret, challenge, join, WorkerId(1))));
}

TEST(Handshake, AProofIsWorthNothingElsewhere) {
  const Nonce challenge = filled(1);
  std::set<Proof> proofs{prove_worker(kSecret, challenge, sample_join())};
  const auto expect_another = [&](const Proof& proof, const char* what) {
    EXPECT_TRUE(proofs.insert(proof).second) << what;
  };
  expect_another(prove_worker(Secret("another secret of theirs"), challenge, sample_join()),
                 "secret");
  expect_another(prove_worker(Secret(), challenge, sample_join()), "no secret");
  expect_another(prove_worker(kSecret, filled(2), sample_join()), "challenge");
  const auto coordinator_of = [&](uint32_t worker) {
    return prove_coordinator(kSecret, challenge, sample_join(), WorkerId(worker));
  };
  expect_another(coordinator_of(0), "role");
  expect_another(coordinator_of(1), "id");
}

TEST(Handshake, AProofCoversEveryFieldOfTheJoin) {
  using Change = void (*)(Join&);
  const std::map<std::string, Change> changes{
      {"nonce", [](Join& j) { j.nonce[31] ^= std::byte{1}; }},
      {"incarnation", [](Join& j) { ++j.incarnation; }},
      {"fingerprint", [](Join& j) { ++j.model_fingerprint; }},
      {"format", [](Join& j) { ++j.weight_format; }},
      {"pid", [](Join& j) { ++j.pid; }},
      {"speed", [](Join& j) { j.capacity.rows_per_second *= 2; }},
      {"memory", [](Join& j) { ++j.capacity.memory_bytes; }},
      {"expert bytes", [](Join& j) { ++j.capacity.expert_bytes; }},
      {"threads", [](Join& j) { ++j.capacity.threads; }},
      {"backend", [](Join& j) { j.capacity.backend = "gpu"; }},
      {"name", [](Join& j) { j.name = "worker-2"; }},
      {"host", [](Join& j) { j.host = "other"; }},
      // The same letters, but other borders between them.
      {"borders", [](Join& j) { j.name = "worker-1h", j.host = "ost"; }},
  };
  std::set<Proof> worker{prove_worker(kSecret, filled(1), sample_join())};
  std::set<Proof> coordinator{prove_coordinator(kSecret, filled(1), sample_join(), WorkerId(1))};
  for (const auto& [what, change] : changes) {
    Join join = sample_join();
    change(join);
    EXPECT_TRUE(worker.insert(prove_worker(kSecret, filled(1), join)).second) << what;
    EXPECT_TRUE(coordinator.insert(prove_coordinator(kSecret, filled(1), join, WorkerId(1))).second)
        << what;
  }
}

TEST(Handshake, TheProofItselfIsNotRead) {
  Join join = sample_join();
  const Proof proof = prove_worker(kSecret, filled(1), join);
  join.proof = proof;
  EXPECT_EQ(prove_worker(kSecret, filled(1), join), proof);
}

TEST(Handshake, AReplayFails) {
  Join join = sample_join();
  join.proof = prove_worker(kSecret, make_nonce(), join);
  EXPECT_FALSE(equal(join.proof, prove_worker(kSecret, make_nonce(), join)));
  const Proof welcome = prove_coordinator(kSecret, filled(1), join, WorkerId(1));
  join.nonce = make_nonce();
  EXPECT_FALSE(equal(welcome, prove_coordinator(kSecret, filled(1), join, WorkerId(1))));
}

TEST(Handshake, NoncesAreFresh) {
  std::set<Nonce> nonces;
  for (int i = 0; i < 1000; ++i) nonces.insert(make_nonce());
  EXPECT_EQ(nonces.size(), 1000u);
}

TEST(Handshake, ProofsAreComparedToTheLastBit) {
  const Proof proof = filled(1);
  for (size_t bit = 0; bit < proof.size() * 8; ++bit) {
    Proof other = proof;
    other[bit / 8] ^= std::byte(1 << bit % 8);
    EXPECT_FALSE(equal(proof, other)) << bit;
  }
  EXPECT_TRUE(equal(proof, filled(1)));
}

class SecretFile : public testing::Test {
 protected:
  using perms = std::filesystem::perms;

  ~SecretFile() override { std::filesystem::remove(path_); }

  Result<Secret> read(const std::string& text, perms granted = perms::owner_read) {
    std::filesystem::remove(path_);
    std::ofstream(path_, std::ios::binary) << text;
    std::filesystem::permissions(path_, granted);
    return Secret::read(path_);
  }

  const std::filesystem::path path_ = std::filesystem::path(testing::TempDir()) /
                                      testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(SecretFile, WhiteSpaceAtItsEndsIsLeftOut) {
  const auto secret = read(" \n0123456789 abcdef\r\n\n");
  ASSERT_TRUE(secret) << secret.error().message;
  EXPECT_EQ(secret->bytes(), "0123456789 abcdef");
}

TEST_F(SecretFile, MissingOnesAreNamed) {
  const auto secret = Secret::read(path_);
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().code, ErrorCode::kNotFound);
  EXPECT_NE(secret.error().message.find(path_.string()), std::string::npos);
}

TEST_F(SecretFile, ShortAndLongOnesAreRefused) {
  EXPECT_TRUE(read("0123456789abcdef"));
  for (const std::string& text : {std::string(), std::string("  0123456789abcde  \n"),
                                  std::string(30, '\n'), std::string(5000, 'x')}) {
    const auto secret = read(text);
    ASSERT_FALSE(secret) << text;
    EXPECT_EQ(secret.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(secret.error().message.find(path_.string()), std::string::npos);
    EXPECT_EQ(secret.error().message.find("0123"), std::string::npos) << "shows the secret";
  }
}

TEST_F(SecretFile, ThoseThatEveryoneCanReadOrChangeAreRefused) {
  const std::string text = "0123456789abcdef";
  EXPECT_TRUE(read(text, perms::owner_read | perms::group_read));
  for (const perms granted : {perms::others_read, perms::others_write}) {
    const auto secret = read(text, perms::owner_read | granted);
    ASSERT_FALSE(secret);
    EXPECT_EQ(secret.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(secret.error().message.find("everyone"), std::string::npos);
  }
}

}  // namespace
}  // namespace pregate::protocol
