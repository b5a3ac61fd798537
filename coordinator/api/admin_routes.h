// /admin/v1/: what operators ask of a cluster and tell it to do.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "coordinator/api/api_error.h"
#include "coordinator/api/auth.h"
#include "coordinator/api/http_server.h"

namespace pregate::coordinator {

/// What the process does for operators; each gives the body of the answer. They may block: none is
/// called on the I/O thread. All of them are empty where there are no workers.
struct AdminHooks {
  using Answer = ApiResult<boost::json::object>;

  std::function<Answer()> workers;
  // 404 for a name that no worker has.
  std::function<Answer(const std::string&name)> worker, drain, remove;
  std::function<Answer()> placement;
  /// The text of a placement file.
  std::function<Answer(const std::string& text)> set_placement;
  std::function<Answer()> balancer;
  std::function<Answer(bool frozen)> freeze_balancer;
};

struct AdminConfig {
  std::vector<std::string> keys;  ///< None: those of the API. None there either: nobody is let in.
  AdminHooks hooks = {};
};

/// I/O thread only.
class AdminRoutes {
 public:
  /// Runs slow work elsewhere.
  using RunSlow = std::function<void(std::function<void()>)>;

  AdminRoutes(AdminConfig config, std::vector<std::string> api_keys, IoPost io_post,
              RunSlow run_slow);

  static bool owns(std::string_view path);
  void handle(const std::shared_ptr<HttpExchange>& exchange) const;

 private:
  using Exchange = const std::shared_ptr<HttpExchange>&;

  bool admit(Exchange exchange) const;
  void answer(Exchange exchange, std::function<AdminHooks::Answer()> work) const;
  std::function<AdminHooks::Answer()> work_of(Exchange exchange, std::string_view route,
                                              const std::string& worker) const;

  const AdminHooks hooks_;
  const bool closed_;
  const ApiKeys keys_;
  const IoPost io_post_;
  const RunSlow run_slow_;
};

}  // namespace pregate::coordinator
