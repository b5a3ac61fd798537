#include "coordinator/api/admin_routes.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "coordinator/api/field_reader.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;
using Answer = AdminHooks::Answer;

constexpr std::string_view kPrefix = "/admin/";
constexpr std::string_view kWorkers = "/admin/v1/workers";
constexpr std::string_view kWorker = "/admin/v1/workers/{worker}";
constexpr std::string_view kDrain = "/admin/v1/workers/{worker}/drain";
constexpr std::string_view kPlacement = "/admin/v1/placement";
constexpr std::string_view kBalancer = "/admin/v1/balancer";

struct Route {
  std::string_view pattern;
  std::vector<std::string_view> methods;
};

const std::array<Route, 5>& routes() {
  static const std::array<Route, 5> kRoutes = {{{kWorkers, {"GET"}},
                                                {kWorker, {"GET", "DELETE"}},
                                                {kDrain, {"POST"}},
                                                {kPlacement, {"GET", "PUT"}},
                                                {kBalancer, {"GET", "PUT"}}}};
  return kRoutes;
}

/// The part of `path` that stands for {worker}; nothing if it does not fit the pattern.
std::optional<std::string> match(std::string_view pattern, std::string_view path) {
  constexpr std::string_view kPlace = "{worker}";
  const size_t at = pattern.find(kPlace);
  if (at == std::string_view::npos) {
    return pattern == path ? std::optional(std::string()) : std::nullopt;
  }
  const std::string_view before = pattern.substr(0, at);
  const std::string_view after = pattern.substr(at + kPlace.size());
  if (!path.starts_with(before) || !path.ends_with(after)) return std::nullopt;
  if (path.size() <= before.size() + after.size()) return std::nullopt;
  const std::string_view name =
      path.substr(before.size(), path.size() - before.size() - after.size());
  if (name.find('/') != std::string_view::npos) return std::nullopt;
  return std::string(name);
}

Answer set_frozen(const AdminHooks& hooks, const std::string& body) {
  boost::system::error_code error;
  const json::value root = json::parse(body, error);
  if (error) return tl::unexpected(ApiError{400, "the body is not JSON: " + error.message()});
  if (!root.is_object()) return tl::unexpected(ApiError{400, "the body: expected an object"});
  FieldReader reader(root.get_object());
  bool frozen = false;
  const bool given = reader.find("frozen") != nullptr;
  reader.read("frozen", frozen);
  if (reader.error()) return tl::unexpected(*reader.error());
  if (!given) return invalid_field("frozen", "frozen: expected true or false");
  return hooks.freeze_balancer(frozen);
}

/// What `work` throws (out of memory, a fault in a library) becomes a 500.
Answer guarded(const std::function<Answer()>& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    spdlog::error("admin API: a request failed: {}", e.what());
    return tl::unexpected(ApiError{500, "internal error", "", "internal_error"});
  }
}

HttpResponse method_not_allowed(const Route& route) {
  const std::string allowed = fmt::format("{}", fmt::join(route.methods, ", "));
  HttpResponse response = error_response(
      {405, fmt::format("{} takes {}", route.pattern, allowed), "", "method_not_allowed"});
  response.headers.emplace_back("Allow", allowed);
  return response;
}

}  // namespace

AdminRoutes::AdminRoutes(AdminConfig config, std::vector<std::string> api_keys, IoPost io_post,
                         RunSlow run_slow)
    : hooks_(std::move(config.hooks)),
      closed_(config.keys.empty() && api_keys.empty()),
      keys_(config.keys.empty() ? std::move(api_keys) : std::move(config.keys)),
      io_post_(std::move(io_post)),
      run_slow_(std::move(run_slow)) {}

bool AdminRoutes::owns(std::string_view path) { return path.starts_with(kPrefix); }

bool AdminRoutes::admit(Exchange exchange) const {
  if (closed_) {
    exchange->respond(
        error_response({403,
                        "the admin API is closed, because there are no keys: start the server with "
                        "--admin-key-file FILE, or with --api-key-file FILE to let API keys in",
                        "", "admin_closed"}));
    return false;
  }
  if (keys_.admits(exchange->request().authorization)) return true;
  exchange->respond(error_response(
      {401, "a valid admin key is needed: \"Authorization: Bearer KEY\"", "", "invalid_api_key"}));
  return false;
}

void AdminRoutes::handle(Exchange exchange) const {
  if (!admit(exchange)) return;
  const HttpRequest& request = exchange->request();
  for (const Route& route : routes()) {
    const auto worker = match(route.pattern, request.path);
    if (!worker) continue;
    exchange->set_route(route.pattern);
    if (std::ranges::count(route.methods, request.method) == 0) {
      return exchange->respond(method_not_allowed(route));
    }
    return answer(exchange, work_of(exchange, route.pattern, *worker));
  }
  exchange->respond(
      error_response({404, fmt::format("no such path: {}", request.path), "", "not_found"}));
}

std::function<Answer()> AdminRoutes::work_of(Exchange exchange, std::string_view route,
                                             const std::string& worker) const {
  const bool get = exchange->request().method == "GET";
  if (route == kWorkers) return hooks_.workers;
  if (route == kDrain) return [this, worker] { return hooks_.drain(worker); };
  if (route == kWorker) {
    return [this, get, worker] { return get ? hooks_.worker(worker) : hooks_.remove(worker); };
  }
  if (get) return route == kPlacement ? hooks_.placement : hooks_.balancer;
  if (route == kPlacement) {
    return [this, exchange] { return hooks_.set_placement(exchange->request().body); };
  }
  return [this, exchange] { return set_frozen(hooks_, exchange->request().body); };
}

void AdminRoutes::answer(Exchange exchange, std::function<Answer()> work) const {
  if (!hooks_.workers) {
    return exchange->respond(
        error_response({409, "this server has its experts in its own process: there are no workers",
                        "", "no_workers"}));
  }
  run_slow_([exchange, work = std::move(work), post = io_post_] {
    Answer body = guarded(work);
    post([exchange, body = std::move(body)] {
      exchange->respond(body ? HttpResponse{.headers = {}, .body = json::serialize(*body)}
                             : error_response(body.error()));
    });
  });
}

}  // namespace pregate::coordinator
