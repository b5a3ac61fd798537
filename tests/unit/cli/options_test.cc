#include "cli/options.h"

#include <gtest/gtest.h>

namespace pregate::cli {
namespace {

TEST(ApiKey, HasOneSourceOnly) {
  EXPECT_TRUE(check(HttpOptions{.api_key = "a"}));
  EXPECT_TRUE(check(HttpOptions{.api_key_file = "b"}));
  const Status both = check(HttpOptions{.api_key = "a", .api_key_file = "b"});
  ASSERT_FALSE(both);
  EXPECT_NE(both.error().message.find("--api-key and --api-key-file"), std::string::npos);
}

TEST(Listen, NeedsASecretAndTheSecretNeedsIt) {
  EXPECT_TRUE(check(ListenOptions{}));
  EXPECT_TRUE(check(ListenOptions{.address = "h:1", .secret_file = "s"}));
  const Status open = check(ListenOptions{.address = "h:1"});
  ASSERT_FALSE(open);
  EXPECT_NE(open.error().message.find("--secret-file is needed"), std::string::npos);
  EXPECT_FALSE(check(ListenOptions{.secret_file = "s"}));
}

TEST(Lookahead, MustBeKnown) {
  EXPECT_TRUE(check(router::LookaheadOptions{}));
  EXPECT_TRUE(check(router::LookaheadOptions{.source = "auto"}));
  const Status unknown = check(router::LookaheadOptions{.source = "gate"});
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("--lookahead: gate: expected none, auto"),
            std::string::npos);
}

TEST(ThreadCount, ZeroMeansAllCores) {
  EXPECT_EQ(thread_count(3), 3U);
  EXPECT_GE(thread_count(0), 1U);
}

}  // namespace
}  // namespace pregate::cli
