#include "coordinator/api/status_routes.h"

#include <boost/json.hpp>

#include "monitoring/metrics/registry.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

HttpResponse json_response(const json::object& body) {
  return {.headers = {}, .body = json::serialize(body)};
}

HttpResponse ready_response(const Readiness& readiness) {
  HttpResponse response = json_response({{"status", readiness.state}});
  if (!readiness.ready) {
    response.status = 503;
    response.headers.emplace_back("Retry-After", "1");
  }
  return response;
}

}  // namespace

std::optional<HttpResponse> answer_status(std::string_view path, const StatusHooks& hooks) {
  // /health is what a load balancer asks before it sends requests, so it means "ready".
  if (path == "/health" || path == "/health/ready") return ready_response(hooks.readiness());
  if (path == "/health/live") return json_response({{"status", "live"}});
  if (path == "/version") return json_response({{"version", hooks.version}});
  if (path == "/metrics") {
    return HttpResponse{
        .content_type = monitoring::kScrapeContentType, .headers = {}, .body = hooks.scrape()};
  }
  return std::nullopt;
}

bool is_open_path(std::string_view path) {
  return path == "/metrics" || path == "/health" || path.starts_with("/health/");
}

}  // namespace pregate::coordinator
