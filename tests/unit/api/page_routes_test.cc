// The live page's files, and the data that it reads.
#include "coordinator/api/page_routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/api/api.h"
#include "coordinator/page/page.h"
#include "tests/unit/api/fake_exchange.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;
using testing::FakeExchange;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

std::string header_of(const HttpResponse& response, const std::string& name) {
  for (const auto& [key, value] : response.headers) {
    if (key == name) return value;
  }
  return "";
}

class PageRoutesTest : public ::testing::Test {
 protected:
  std::shared_ptr<FakeExchange> send(const std::string& method, const std::string& path,
                                     const std::string& authorization = "") {
    const auto post = [](std::function<void()> task) { task(); };
    const auto run_slow = [this](std::function<void()> task) {
      ++num_slow_;
      task();
    };
    Api api(config_,
            {.readiness = [] { return Readiness{.ready = false, .state = "loading: 40 %"}; },
             .scrape = {},
             .version = "1.2"},
            post, run_slow);
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.authorization = authorization;
    auto exchange = std::make_shared<FakeExchange>(std::move(request));
    api.handle(exchange);
    return exchange;
  }
  HttpResponse answer(const std::string& method, const std::string& path,
                      const std::string& authorization = "") {
    return send(method, path, authorization)->answer.value();
  }

  ApiConfig config_{.served_names = {"m"}, .api_keys = {"secret"}};
  size_t num_slow_ = 0;
};

TEST_F(PageRoutesTest, ThePageIsServedToAllAndLoadsNothingFromElsewhere) {
  ASSERT_EQ(page_files().front().path, "/");
  for (const PageFile& file : page_files()) {
    const HttpResponse response = answer("GET", std::string(file.path));
    EXPECT_EQ(response.status, 200) << file.path;
    EXPECT_FALSE(response.body.empty()) << file.path;
    EXPECT_EQ(header_of(response, "Cache-Control"), "no-cache");
    EXPECT_EQ(header_of(response, "X-Content-Type-Options"), "nosniff");
    EXPECT_THAT(header_of(response, "Content-Security-Policy"), StartsWith("default-src 'self';"));
    EXPECT_THAT(header_of(response, "Content-Security-Policy"), Not(HasSubstr("unsafe")));
    if (file.path != "/icon.svg") {  // which names its name space
      EXPECT_THAT(response.body, Not(HasSubstr("://"))) << file.path;
    }
  }
}

TEST_F(PageRoutesTest, EachFileHasTheTypeOfItsName) {
  EXPECT_EQ(answer("GET", "/").content_type, "text/html; charset=utf-8");
  EXPECT_EQ(answer("GET", "/page.css").content_type, "text/css; charset=utf-8");
  EXPECT_EQ(answer("GET", "/page.js").content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(answer("GET", "/icon.svg").content_type, "image/svg+xml");
}

TEST_F(PageRoutesTest, WhatThePageNamesIsThere) {
  for (const PageFile& file : page_files()) {
    if (file.path == "/") continue;
    const std::string name(file.path.substr(1));
    bool named = false;
    for (const PageFile& other : page_files()) named |= other.text.find(name) != std::string::npos;
    EXPECT_TRUE(named) << name;
  }
  const std::string_view html = page_files().front().text;
  EXPECT_THAT(std::string(html), Not(HasSubstr("style=")));  // the policy would not allow it
  EXPECT_THAT(std::string(html), Not(HasSubstr("onclick=")));
}

TEST_F(PageRoutesTest, OtherMethodsAreAnsweredAsEverywhere) {
  EXPECT_EQ(answer("HEAD", "/").status, 200);
  for (const char* path : {"/", "/page.js"}) {
    const HttpResponse response = answer("POST", path);
    EXPECT_EQ(response.status, 405) << path;
    EXPECT_EQ(header_of(response, "Allow"), "GET, HEAD, OPTIONS");
  }
  EXPECT_EQ(answer("POST", "/live", "Bearer secret").status, 405);
  EXPECT_EQ(answer("HEAD", "/live", "Bearer secret").status, 200);
  EXPECT_EQ(answer("GET", "/index.html", "Bearer secret").status, 404);
  EXPECT_EQ(send("GET", "/page.css")->route, "/");
}

TEST_F(PageRoutesTest, TheDataNeedsAKey) {
  config_.live = [] { return json::object{{"tokens", 3}}; };
  const HttpResponse refused = answer("GET", "/live");
  EXPECT_EQ(refused.status, 401);
  EXPECT_THAT(refused.body, Not(HasSubstr("tokens")));
  EXPECT_EQ(answer("GET", "/live", "Bearer wrong").status, 401);
  EXPECT_EQ(num_slow_, 0u);
  const HttpResponse response = answer("GET", "/live", "Bearer secret");
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.content_type, "application/json");
  EXPECT_EQ(header_of(response, "Cache-Control"), "no-store");
  EXPECT_EQ(response.body, R"({"tokens":3,"version":"1.2","ready":false,"state":"loading: 40 %"})");
  EXPECT_EQ(num_slow_, 1u);
}

TEST_F(PageRoutesTest, DataThatCannotBeHadIsAnError) {
  config_.live = []() -> json::object { throw std::runtime_error("no"); };
  EXPECT_EQ(answer("GET", "/live", "Bearer secret").status, 500);
}

}  // namespace
}  // namespace pregate::coordinator
