#include "coordinator/api/api_server.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

namespace pregate::coordinator {
namespace {

HttpServerOptions with_api_errors(HttpServerOptions options, bool allow_cors) {
  options.describe_fault = [](const RequestFault& fault) {
    return error_response(to_api_error(fault));
  };
  if (allow_cors) options.common_headers.emplace_back("Access-Control-Allow-Origin", "*");
  return options;
}

}  // namespace

struct ApiServer::Impl {
  Impl(ApiOptions options, StatusHooks hooks, monitoring::HttpProbe* probe)
      : pool(options.tokenizer_threads),
        server(
            with_api_errors(options.http, options.api.allow_cors),
            [this](const std::shared_ptr<HttpExchange>& exchange) { api.handle(exchange); }, probe),
        api(options.api, std::move(hooks), server.io_post(),
            [this](std::function<void()> task) { boost::asio::post(pool, std::move(task)); }) {}

  boost::asio::thread_pool pool;
  HttpServer server;
  Api api;
};

ApiServer::ApiServer(ApiOptions options, StatusHooks hooks, monitoring::HttpProbe* probe)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(hooks), probe)) {}

ApiServer::~ApiServer() { stop(Duration::zero()); }

Result<uint16_t> ApiServer::start() { return impl_->server.start(); }

void ApiServer::serve(const ServingModel& model) {
  impl_->server.io_post()([this, model] { impl_->api.set_model(model); });
}

bool ApiServer::stop(Duration deadline) {
  impl_->server.io_post()([this] { impl_->api.set_draining(); });
  const bool drained = impl_->server.stop(deadline);
  impl_->pool.join();
  return drained;
}

StatusServer::StatusServer(HttpServerOptions options, StatusHooks hooks,
                           monitoring::HttpProbe* probe)
    : server_(
          with_api_errors(std::move(options), false),
          [hooks = std::move(hooks)](const std::shared_ptr<HttpExchange>& exchange) {
            const HttpRequest& request = exchange->request();
            const bool get = request.method == "GET" || request.method == "HEAD";
            const auto response = get ? answer_status(request.path, hooks) : std::nullopt;
            if (response) exchange->set_route(request.path);
            exchange->respond(response ? *response : error_response({404, "no such path"}));
          },
          probe) {}

}  // namespace pregate::coordinator
