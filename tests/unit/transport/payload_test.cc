#include "transport/payload.h"

#include <algorithm>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/device_memories.h"

namespace pregate::transport {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(PayloadTest, WithoutATailIsOnTheHostAlready) {
  const Payload payload = Payload::copy_of(bytes_of("rows"));
  EXPECT_EQ(payload.tail(), nullptr);
  EXPECT_EQ(payload.on_host()->bytes().data(), payload.bytes().data()) << "nothing is copied";
}

TEST(PayloadTest, ATailIsBroughtToTheHostBehindItsHead) {
  const auto memory = std::make_shared<ScrambledMemory>();
  const Payload payload =
      with_tail(memory, Payload::copy_of(bytes_of("table, ")), bytes_of("rows"));
  EXPECT_EQ(payload.size(), 11u);
  EXPECT_EQ(text_of(payload.head()), "table, ");
  ASSERT_NE(payload.tail(), nullptr);
  EXPECT_EQ(payload.tail()->size, 4u);
  const auto on_host = payload.on_host();
  ASSERT_TRUE(on_host);
  EXPECT_EQ(on_host->tail(), nullptr);
  EXPECT_EQ(text_of(on_host->bytes()), "table, rows");
}

TEST(PayloadTest, ATailNeedsNoHead) {
  const auto memory = std::make_shared<ScrambledMemory>();
  const Payload payload = with_tail(memory, {}, bytes_of("rows"));
  EXPECT_EQ(text_of(payload.on_host()->bytes()), "rows");
}

TEST(PayloadTest, CopiesShareTheTail) {
  const auto memory = std::make_shared<ScrambledMemory>();
  Payload payload = with_tail(memory, {}, bytes_of("rows"));
  {
    const Payload copy = std::exchange(payload, {});
    EXPECT_EQ(memory->used_bytes(), 4u);
    EXPECT_EQ(copy.tail()->size, 4u);
  }
  EXPECT_EQ(memory->used_bytes(), 0u);
}

TEST(PayloadTest, ADeviceThatIsLostIsAnError) {
  const auto read = with_tail(std::make_shared<LostMemory>(), {}, bytes_of("rows")).on_host();
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message, "cuda:0 is lost");
}

}  // namespace
}  // namespace pregate::transport
