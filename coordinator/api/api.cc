#include "coordinator/api/api.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/api/page_routes.h"

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

constexpr std::string_view kModelPrefix = "/v1/models/";
constexpr std::string_view kPage = "/";

json::object model_card(const std::string& name, int64_t created, const ServingModel& model) {
  return {{"id", name},
          {"object", "model"},
          {"created", created},
          {"owned_by", "pregate"},
          {"root", name},
          {"parent", nullptr},
          {"permission", json::array()},
          {"max_model_len", model.max_model_len}};
}

void respond_json(HttpExchange& exchange, const json::object& body) {
  exchange.respond({.headers = {}, .body = json::serialize(body)});
}

/// Runs `work`; what it throws (out of memory, a fault in a library) becomes a 500.
template <typename T, typename Work>
ApiResult<T> guarded(const Work& work) {
  try {
    return work();
  } catch (const std::exception& e) {
    spdlog::error("API: a request failed: {}", e.what());
    return tl::unexpected(ApiError{500, "internal error", "", "internal_error"});
  }
}

}  // namespace

Api::Api(ApiConfig config, StatusHooks hooks, IoPost io_post, RunSlow run_slow)
    : config_(std::move(config)),
      hooks_(std::move(hooks)),
      io_post_(std::move(io_post)),
      run_slow_(std::move(run_slow)),
      keys_(config_.api_keys),
      admin_(config_.admin, config_.api_keys, io_post_, run_slow_),
      created_(std::time(nullptr)),
      random_(seed_from_system()) {
  PREGATE_CHECK(!config_.served_names.empty());
}

const Api::Route* Api::find_route(std::string_view path) {
  static constexpr std::array<Route, 13> kRoutes = {{
      {"GET", kPage, &Api::get_page},
      {"GET", "/live", &Api::get_live},
      {"GET", "/health", &Api::get_status},
      {"GET", "/health/live", &Api::get_status},
      {"GET", "/health/ready", &Api::get_status},
      {"GET", "/version", &Api::get_status},
      {"GET", "/metrics", &Api::get_status},
      {"GET", "/v1/models", &Api::list_models},
      {"GET", "/v1/models/{model}", &Api::get_model},
      {"POST", "/v1/completions", &Api::complete},
      {"POST", "/v1/chat/completions", &Api::chat},
      {"POST", "/tokenize", &Api::tokenize},
      {"POST", "/detokenize", &Api::detokenize},
  }};
  std::string_view wanted = path.starts_with(kModelPrefix) ? "/v1/models/{model}" : path;
  if (is_page_path(path)) wanted = kPage;
  const auto* found = std::find_if(kRoutes.begin(), kRoutes.end(),
                                   [&](const Route& route) { return route.path == wanted; });
  return found == kRoutes.end() ? nullptr : found;
}

void Api::handle(Exchange exchange) {
  const HttpRequest& request = exchange->request();
  if (AdminRoutes::owns(request.path)) return admin_.handle(exchange);
  const Route* route = find_route(request.path);
  const bool open = is_open_path(request.path) || is_page_path(request.path);
  const bool preflight = request.method == "OPTIONS" && route != nullptr;
  if (!preflight && !open && !keys_.admits(request.authorization)) {
    return exchange->respond(error_response(
        {401, "a valid API key is needed: \"Authorization: Bearer KEY\"", "", "invalid_api_key"}));
  }
  if (route == nullptr) {
    return exchange->respond(
        error_response({404, fmt::format("no such path: {}", request.path), "", "not_found"}));
  }
  exchange->set_route(route->path);
  dispatch(*route, exchange);
}

void Api::dispatch(const Route& route, Exchange exchange) {
  const std::string& method = exchange->request().method;
  const std::string allowed =
      fmt::format("{}OPTIONS", route.method == "GET" ? "GET, HEAD, " : "POST, ");
  if (method == "OPTIONS") {
    HttpResponse response{.status = 204, .headers = {{"Allow", allowed}}, .body = {}};
    if (config_.allow_cors) {
      response.headers.emplace_back("Access-Control-Allow-Methods", allowed);
      response.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type");
    }
    return exchange->respond(std::move(response));
  }
  if (method == route.method || (method == "HEAD" && route.method == "GET")) {
    return (this->*route.handler)(exchange);
  }
  HttpResponse response = error_response(
      {405, fmt::format("{} takes {}", route.path, allowed), "", "method_not_allowed"});
  response.headers.emplace_back("Allow", allowed);
  exchange->respond(std::move(response));
}

Readiness Api::readiness() const {
  if (draining_) return {.ready = false, .state = "draining"};
  Readiness readiness = hooks_.readiness();
  if (model_ == nullptr && readiness.ready) return {.ready = false, .state = "loading"};
  return readiness;
}

// A served model that is not ready takes requests all the same: whether they can wait for what is
// missing is for the GenerationService to say.
bool Api::refuse_without_model(Exchange exchange) const {
  if (model_ != nullptr && !draining_) return false;
  exchange->respond(error_response({503, "not ready: " + readiness().state, "", "unavailable"}));
  return true;
}

void Api::get_page(Exchange exchange) { exchange->respond(*answer_page(exchange->request().path)); }

void Api::get_live(Exchange exchange) {
  const Readiness now = readiness();
  run_slow_([exchange, now, live = config_.live, version = hooks_.version, post = io_post_] {
    auto text = guarded<std::string>([&] {
      json::object body = live ? live() : json::object();
      body["version"] = version;
      body["ready"] = now.ready;
      body["state"] = now.state;
      return json::serialize(body);
    });
    post([exchange, text = std::move(text)] {
      exchange->respond(
          text ? HttpResponse{.headers = {{"Cache-Control", "no-store"}}, .body = *text}
               : error_response(text.error()));
    });
  });
}

void Api::get_status(Exchange exchange) {
  StatusHooks hooks = hooks_;
  hooks.readiness = [this] { return readiness(); };
  exchange->respond(*answer_status(exchange->request().path, hooks));
}

void Api::list_models(Exchange exchange) {
  if (refuse_without_model(exchange)) return;
  json::array models;
  for (const std::string& name : config_.served_names) {
    models.push_back(model_card(name, created_, *model_));
  }
  respond_json(*exchange, {{"object", "list"}, {"data", std::move(models)}});
}

void Api::get_model(Exchange exchange) {
  if (refuse_without_model(exchange)) return;
  const std::string name = exchange->request().path.substr(kModelPrefix.size());
  const auto& names = config_.served_names;
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return exchange->respond(error_response(
        {404, fmt::format("The model `{}` does not exist.", name), "model", "model_not_found"}));
  }
  respond_json(*exchange, model_card(name, created_, *model_));
}

void Api::complete(Exchange exchange) { generate(exchange, prepare_completion, false); }
void Api::chat(Exchange exchange) { generate(exchange, prepare_chat, true); }
void Api::tokenize(Exchange exchange) { answer_slowly(exchange, answer_tokenize); }
void Api::detokenize(Exchange exchange) { answer_slowly(exchange, answer_detokenize); }

void Api::answer_slowly(Exchange exchange, Answer answer) {
  if (refuse_without_model(exchange)) return;
  run_slow_([exchange, answer, model = model_, names = config_.served_names, post = io_post_] {
    auto body =
        guarded<std::string>([&] { return answer(exchange->request().body, *model, names); });
    post([exchange, body = std::move(body)] {
      exchange->respond(body ? HttpResponse{.headers = {}, .body = *body}
                             : error_response(body.error()));
    });
  });
}

void Api::generate(Exchange exchange, Prepare prepare, bool chat) {
  if (refuse_without_model(exchange)) return;
  AnswerHead head{
      .id = new_id(chat ? "chatcmpl-" : "cmpl-"), .created = std::time(nullptr), .model = {}};
  run_slow_([exchange, prepare, chat, head, model = model_, names = config_.served_names,
             post = io_post_]() mutable {
    auto call =
        guarded<PreparedCall>([&] { return prepare(exchange->request().body, *model, names); });
    post([exchange, chat, head, model, post, call = std::move(call)]() mutable {
      if (!call) return exchange->respond(error_response(call.error()));
      head.model = call->model;
      auto format = chat ? chat_format(head, call->fields, model->tokenizer)
                         : completion_format(head, call->fields, model->tokenizer);
      GenerationCall::start({exchange, model->generation, post}, std::move(*call),
                            std::move(format));
    });
  });
}

std::string Api::new_id(std::string_view prefix) {
  return fmt::format("{}{:016x}{:016x}", prefix, random_.next_u64(), random_.next_u64());
}

}  // namespace pregate::coordinator
