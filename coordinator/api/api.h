// The API without its sockets: routes, keys, readiness, and the way from a request to its answer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "coordinator/api/admin_routes.h"
#include "coordinator/api/auth.h"
#include "coordinator/api/generation_call.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/prepare.h"
#include "coordinator/api/serving_model.h"
#include "coordinator/api/status_routes.h"

namespace pregate::coordinator {

struct ApiConfig {
  ServedNames served_names;           ///< At least one.
  std::vector<std::string> api_keys;  ///< None: open to all.
  bool allow_cors = false;            ///< Answer browsers' preflight requests.
  AdminConfig admin = {};
  /// What /live answers besides readiness and version. May block: not called on the I/O thread.
  std::function<boost::json::object()> live = {};
};

/// I/O thread only.
class Api {
 public:
  /// Runs slow work elsewhere.
  using RunSlow = std::function<void(std::function<void()>)>;

  Api(ApiConfig config, StatusHooks hooks, IoPost io_post, RunSlow run_slow);

  /// Until this is called, what needs the model is answered with 503.
  void set_model(const ServingModel& model) { model_ = std::make_shared<ServingModel>(model); }
  /// From now on nothing new is generated.
  void set_draining() { draining_ = true; }

  void handle(const std::shared_ptr<HttpExchange>& exchange);

 private:
  using Exchange = const std::shared_ptr<HttpExchange>&;
  using Handler = void (Api::*)(Exchange);
  using Prepare = ApiResult<PreparedCall> (*)(std::string_view, const ServingModel&,
                                              const ServedNames&);
  using Answer = ApiResult<std::string> (*)(std::string_view, const ServingModel&,
                                            const ServedNames&);
  struct Route {
    std::string_view method;
    std::string_view path;
    Handler handler;
  };

  static const Route* find_route(std::string_view path);
  void dispatch(const Route& route, Exchange exchange);
  Readiness readiness() const;
  bool refuse_without_model(Exchange exchange) const;

  void get_page(Exchange exchange);
  void get_live(Exchange exchange);
  void get_status(Exchange exchange);
  void list_models(Exchange exchange);
  void get_model(Exchange exchange);
  void complete(Exchange exchange);
  void chat(Exchange exchange);
  void tokenize(Exchange exchange);
  void detokenize(Exchange exchange);

  void answer_slowly(Exchange exchange, Answer answer);
  void generate(Exchange exchange, Prepare prepare, bool chat);
  std::string new_id(std::string_view prefix);

  const ApiConfig config_;
  const StatusHooks hooks_;
  const IoPost io_post_;
  const RunSlow run_slow_;
  const ApiKeys keys_;
  const AdminRoutes admin_;
  const int64_t created_;
  Random random_;
  std::shared_ptr<const ServingModel> model_;  // null until set
  bool draining_ = false;
};

}  // namespace pregate::coordinator
