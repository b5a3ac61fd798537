// The admin API's paths, keys and errors, over an Api with fake hooks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/api/api.h"
#include "tests/unit/api/fake_exchange.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using testing::FakeExchange;
using ::testing::HasSubstr;

class AdminRoutesTest : public ::testing::Test {
 protected:
  AdminRoutesTest() {
    config_.admin.keys = {"admin"};
    config_.admin.hooks = {
        .workers = [this] { return note("workers"); },
        .worker = [this](const std::string& name) { return about("show", name); },
        .drain = [this](const std::string& name) { return about("drain", name); },
        .remove = [this](const std::string& name) { return about("remove", name); },
        .placement = [this] { return note("placement"); },
        .set_placement = [this](const std::string& text) { return note("set " + text); },
        .balancer = [this] { return note("balancer"); },
        .freeze_balancer = [this](bool on) { return note(on ? "freeze" : "unfreeze"); }};
  }

  AdminHooks::Answer note(const std::string& what) {
    calls_.push_back(what);
    return json::object{{"did", what}};
  }
  AdminHooks::Answer about(const std::string& what, const std::string& name) {
    if (name == "ghost") return tl::unexpected(ApiError{404, "no worker \"ghost\""});
    return note(what + " " + name);
  }

  std::shared_ptr<FakeExchange> send(const std::string& method, const std::string& path,
                                     const std::string& body = "",
                                     const std::string& authorization = "Bearer admin") {
    const auto post = [](std::function<void()> task) { task(); };
    const auto run_slow = [this](std::function<void()> task) {
      ++num_slow_;
      task();
    };
    Api api(config_, StatusHooks{.readiness = [] { return Readiness{}; }}, post, run_slow);
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.body = body;
    request.authorization = authorization;
    auto exchange = std::make_shared<FakeExchange>(std::move(request));
    api.handle(exchange);
    return exchange;
  }
  HttpResponse answer(const std::string& method, const std::string& path,
                      const std::string& body = "",
                      const std::string& authorization = "Bearer admin") {
    return send(method, path, body, authorization)->answer.value();
  }
  static std::string message_of(const HttpResponse& response) {
    return std::string(json::parse(response.body).at("error").at("message").as_string());
  }

  ApiConfig config_{.served_names = {"m"}, .api_keys = {"user"}};
  std::vector<std::string> calls_;
  size_t num_slow_ = 0;
};

TEST_F(AdminRoutesTest, EveryPathReachesItsHookOffTheIoThread) {
  EXPECT_EQ(answer("GET", "/admin/v1/workers").body, R"({"did":"workers"})");
  answer("GET", "/admin/v1/workers/worker-1");
  answer("POST", "/admin/v1/workers/worker-1/drain");
  answer("DELETE", "/admin/v1/workers/drain");
  answer("GET", "/admin/v1/placement");
  answer("PUT", "/admin/v1/placement", "{}");
  answer("GET", "/admin/v1/balancer");
  answer("PUT", "/admin/v1/balancer", R"({"frozen": true})");
  answer("PUT", "/admin/v1/balancer", R"({"frozen": false})");
  EXPECT_THAT(calls_, ElementsAre("workers", "show worker-1", "drain worker-1", "remove drain",
                                  "placement", "set {}", "balancer", "freeze", "unfreeze"));
  EXPECT_EQ(num_slow_, calls_.size());
}

TEST_F(AdminRoutesTest, OnlyAdminKeysAreLetInWhereThereAreAny) {
  EXPECT_EQ(answer("GET", "/admin/v1/workers", "", "Bearer user").status, 401);
  EXPECT_EQ(answer("GET", "/admin/v1/workers", "", "").status, 401);
  EXPECT_EQ(answer("GET", "/admin/v1/nowhere", "", "").status, 401);
  config_.admin.keys.clear();
  EXPECT_EQ(answer("GET", "/admin/v1/workers", "", "Bearer user").status, 200);
  EXPECT_EQ(answer("GET", "/admin/v1/workers").status, 401);
}

TEST_F(AdminRoutesTest, WithoutAnyKeyItIsClosedAndSaysHowToOpenIt) {
  config_.admin.keys.clear();
  config_.api_keys.clear();
  const HttpResponse response = answer("GET", "/admin/v1/workers");
  EXPECT_EQ(response.status, 403);
  EXPECT_THAT(message_of(response), HasSubstr("--admin-key-file"));
  EXPECT_TRUE(calls_.empty());
}

TEST_F(AdminRoutesTest, WithoutWorkersThereIsNothingToAdminister) {
  config_.admin.hooks = {};
  EXPECT_EQ(answer("GET", "/admin/v1/workers").status, 409);
  EXPECT_EQ(answer("PUT", "/admin/v1/balancer", R"({"frozen": true})").status, 409);
}

TEST_F(AdminRoutesTest, UnknownPathsMethodsAndWorkers) {
  EXPECT_EQ(answer("GET", "/admin/v1/").status, 404);
  EXPECT_EQ(answer("GET", "/admin/v1/workers/").status, 404);
  EXPECT_EQ(answer("POST", "/admin/v1/workers/a/b/drain").status, 404);
  EXPECT_EQ(answer("GET", "/admin/v1/workers/ghost").status, 404);
  const HttpResponse wrong = answer("POST", "/admin/v1/placement");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_THAT(message_of(wrong), HasSubstr("GET, PUT"));
}

TEST_F(AdminRoutesTest, BadBodiesNameTheField) {
  EXPECT_THAT(message_of(answer("PUT", "/admin/v1/balancer", "{")), HasSubstr("not JSON"));
  EXPECT_THAT(message_of(answer("PUT", "/admin/v1/balancer", "[]")), HasSubstr("an object"));
  for (const char* body : {"{}", R"({"frozen": 1})", R"({"frozen": null})"}) {
    const HttpResponse response = answer("PUT", "/admin/v1/balancer", body);
    EXPECT_EQ(response.status, 400) << body;
    EXPECT_EQ(json::parse(response.body).at("error").at("param").as_string(), "frozen") << body;
  }
  EXPECT_TRUE(calls_.empty());
}

TEST_F(AdminRoutesTest, MetricsNameTheRouteNotTheWorker) {
  EXPECT_EQ(send("GET", "/admin/v1/workers/a")->route, "/admin/v1/workers/{worker}");
  EXPECT_EQ(send("POST", "/admin/v1/workers/a/drain")->route, "/admin/v1/workers/{worker}/drain");
}

TEST_F(AdminRoutesTest, WhatAHookThrowsIsAnInternalError) {
  config_.admin.hooks.workers = []() -> AdminHooks::Answer { throw std::bad_alloc(); };
  EXPECT_EQ(answer("GET", "/admin/v1/workers").status, 500);
}

}  // namespace
}  // namespace pregate::coordinator
