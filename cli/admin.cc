#include "cli/admin.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>

#include "base/mapped_file.h"
#include "cli/flags.h"
#include "cli/http_client.h"
#include "cli/quantity.h"
#include "cli/suggest.h"
#include "cli/table.h"
#include "coordinator/api/auth.h"
#include "protocol/codec.h"

namespace pregate::cli {
namespace {

namespace json = boost::json;

constexpr auto kTimeout = std::chrono::seconds(30);
constexpr auto kDrainLook = std::chrono::milliseconds(500);

constexpr const char* kHelp =
    "What to do:\n"
    "  workers                 who is there, how they are, what they hold\n"
    "  drain NAME [--wait]     move a worker's experts elsewhere, then send it away\n"
    "  remove NAME             forget a worker at once, dead or alive\n"
    "  placement [show]        which worker holds what, and is to hold what\n"
    "  placement set FILE      aim at the placement of a file\n"
    "  balancer                what is being moved, and how even the load is\n"
    "  balancer freeze         move nothing for the sake of the load\n"
    "  balancer unfreeze\n\n"
    "The key is one of the coordinator's --admin-key-file, or of its --api-key-file.";

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

double number_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

uint64_t count_of(const json::object& object, std::string_view key) {
  return static_cast<uint64_t>(std::max(0.0, number_of(object, key)));
}

bool flag_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

const json::array& list_of(const json::object& object, std::string_view key) {
  static const json::array kNone;
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_array() ? value->get_array() : kNone;
}

std::vector<std::string> row_of(const json::object& worker) {
  return {text_of(worker, "name"),
          text_of(worker, "state"),
          fmt::format("{:.0f} s", number_of(worker, "state_seconds")),
          fmt::format("{}:{}", text_of(worker, "host"), count_of(worker, "pid")),
          fmt::format("{}/{}", count_of(worker, "experts"), count_of(worker, "experts_assigned")),
          describe_bytes(count_of(worker, "expert_bytes")),
          fmt::format("{}", count_of(worker, "queue_depth")),
          text_of(worker, "reason")};
}

std::string describe_drain(const json::object& worker) {
  return fmt::format("{}: its {} experts move elsewhere, then it is sent away\n",
                     text_of(worker, "name"), count_of(worker, "experts"));
}

std::string describe_removal(const json::object& answer) {
  return fmt::format("{}: removed\n", text_of(answer, "removed"));
}

std::string describe_new_target(const json::object& answer) {
  std::string page = fmt::format("target {}: workers load what they lack of it\n",
                                 count_of(answer, "target_version"));
  const json::value* balancer = answer.if_contains("balancer");
  if (balancer != nullptr && balancer->is_object() && !flag_of(balancer->get_object(), "frozen")) {
    page += "It holds until the balancer finds better: `pregate admin balancer freeze` keeps it\n";
  }
  return page;
}

/// The rows of a placement file: layers, worker, experts.
std::string describe_table(const json::value* file) {
  if (file == nullptr || !file->is_object()) return "  none yet\n";
  std::vector<std::vector<std::string>> rows{{"  LAYERS", "WORKER", "EXPERTS"}};
  for (const json::value& entry : list_of(file->get_object(), "layers")) {
    if (!entry.is_object() || !entry.get_object().contains("experts")) continue;
    std::string layers = "  " + json::serialize(entry.get_object().at("layers"));
    std::erase(layers, '"');
    for (const auto& [worker, experts] : entry.get_object().at("experts").as_object()) {
      std::string list = json::serialize(experts);
      std::erase(list, '"');
      rows.push_back({layers, std::string(worker), list.substr(1, list.size() - 2)});
    }
  }
  return format_table(rows);
}

Result<AdminCall> placement_call(const std::vector<std::string>& words) {
  constexpr const char* kPath = "/admin/v1/placement";
  if (words.size() == 1 || (words.size() == 2 && words[1] == "show")) {
    return AdminCall{.path = kPath, .describe = describe_placement};
  }
  if (words.size() == 3 && words[1] == "set") {
    PREGATE_ASSIGN(std::string body, read_file(words[2]));
    return AdminCall{
        .method = "PUT", .path = kPath, .body = std::move(body), .describe = describe_new_target};
  }
  return fail(ErrorCode::kInvalidArgument,
              "placement: expected `placement show` or `placement set FILE`");
}

Result<AdminCall> balancer_call(const std::vector<std::string>& words) {
  AdminCall call{.path = "/admin/v1/balancer", .describe = describe_balancer_answer};
  if (words.size() == 1) return call;
  if (words.size() != 2 || (words[1] != "freeze" && words[1] != "unfreeze")) {
    return fail(ErrorCode::kInvalidArgument,
                "balancer: expected `balancer`, `balancer freeze` or `balancer unfreeze`");
  }
  call.method = "PUT";
  call.body = words[1] == "freeze" ? R"({"frozen": true})" : R"({"frozen": false})";
  return call;
}

Result<AdminCall> worker_call(const std::vector<std::string>& words) {
  if (words.size() != 2) {
    return fail(ErrorCode::kInvalidArgument, "{}: expected the name of one worker", words[0]);
  }
  if (!protocol::is_worker_name(words[1])) {
    return fail(ErrorCode::kInvalidArgument, "{}: no worker can have the name \"{}\"", words[0],
                words[1]);
  }
  const std::string path = "/admin/v1/workers/" + words[1];
  if (words[0] == "remove") {
    return AdminCall{.method = "DELETE", .path = path, .describe = describe_removal};
  }
  return AdminCall{
      .method = "POST", .path = path + "/drain", .describe = describe_drain, .drained = words[1]};
}

/// One server and the key to it.
class AdminClient {
 public:
  static Result<AdminClient> create(const AdminOptionsOfCommand& options) {
    AdminClient client;
    PREGATE_ASSIGN(client.url_, parse_url(options.url));
    if (!options.key_file.empty()) {
      PREGATE_ASSIGN(const auto keys, coordinator::read_api_keys(options.key_file, "--key-file"));
      client.key_ = keys.front();
    }
    return client;
  }

  struct Reply {
    int status = 0;
    json::object body;
  };
  Result<Reply> send(const AdminCall& call) const {
    PREGATE_ASSIGN(
        const HttpAnswer answer,
        http_exchange(url_,
                      {.method = call.method, .path = call.path, .bearer = key_, .body = call.body},
                      kTimeout));
    boost::system::error_code error;
    const json::value body = json::parse(answer.body, error);
    if (error || !body.is_object()) {
      return fail(ErrorCode::kDataLoss, "status {}, and no JSON: is this a pregate coordinator?",
                  answer.status);
    }
    return Reply{answer.status, body.get_object()};
  }

 private:
  AdminClient() = default;

  HttpUrl url_;
  std::string key_;
};

Error error_of(const AdminClient::Reply& reply) {
  const json::value* error = reply.body.if_contains("error");
  const std::string message = error != nullptr && error->is_object()
                                  ? text_of(error->get_object(), "message")
                                  : "status " + std::to_string(reply.status);
  return {ErrorCode::kUnavailable, reply.status == 401 ? message + "; see --key-file" : message};
}

/// Until the worker is dead, or not listed any more.
Status wait_for_drain(const AdminClient& client, const std::string& worker, bool quiet) {
  uint64_t last_left = UINT64_MAX;
  for (;;) {
    PREGATE_ASSIGN(const auto reply, client.send({.path = "/admin/v1/workers/" + worker}));
    if (reply.status == 404) break;
    if (reply.status != 200) return fail(error_of(reply));
    if (text_of(reply.body, "state") == "dead") break;
    const uint64_t left = count_of(reply.body, "experts");
    if (!quiet && left != last_left) fmt::print("{}: {} experts\n", worker, left);
    std::fflush(stdout);
    last_left = left;
    std::this_thread::sleep_for(kDrainLook);
  }
  if (!quiet) fmt::print("{}: gone\n", worker);
  return {};
}

Status run_admin(const AdminOptionsOfCommand& options) {
  PREGATE_ASSIGN(const AdminCall call, admin_call(options.words));
  PREGATE_ASSIGN(const AdminClient client, AdminClient::create(options));
  PREGATE_ASSIGN(const auto reply, client.send(call));
  if (reply.status < 200 || reply.status > 299) return fail(error_of(reply));
  if (options.json) {
    fmt::print("{}\n", json::serialize(reply.body));
  } else {
    fmt::print("{}", call.describe(reply.body));
  }
  if (!options.wait || call.drained.empty()) return {};
  return wait_for_drain(client, call.drained, options.json);
}

}  // namespace

std::string describe_workers(const json::object& answer) {
  const json::array& workers = list_of(answer, "workers");
  std::vector<std::vector<std::string>> rows{
      {"NAME", "STATE", "SINCE", "PROCESS", "EXPERTS", "BYTES", "QUEUE", "REASON"}};
  for (const json::value& worker : workers) {
    if (worker.is_object()) rows.push_back(row_of(worker.get_object()));
  }
  const uint64_t missing = count_of(answer, "missing_experts");
  const uint64_t experts = count_of(answer, "experts");
  const uint64_t unanswered = count_of(answer, "unanswered_experts");
  std::string text = format_table(rows);
  if (missing > 0) {
    text += fmt::format("{} of {} experts are held by no live worker\n", missing, experts);
  }
  if (unanswered > 0) {
    text += fmt::format("{} of {} experts are held only by workers that do not answer\n",
                        unanswered, experts);
  }
  if (missing + unanswered == 0) text += fmt::format("all {} experts are held\n", experts);
  return text;
}

std::string describe_placement(const json::object& answer) {
  return fmt::format("held and used (table {}):\n{}to be held (target {}):\n{}",
                     count_of(answer, "table_version"), describe_table(answer.if_contains("table")),
                     count_of(answer, "target_version"),
                     describe_table(answer.if_contains("target")));
}

std::string describe_balancer_answer(const json::object& answer) {
  std::string page = fmt::format("balancer   {}\n", flag_of(answer, "frozen") ? "frozen" : "on");
  page += fmt::format("imbalance  {:.2f} (1 is perfect)\n", number_of(answer, "imbalance"));
  page += flag_of(answer, "moving")
              ? fmt::format("moving     {} of {} replicas still to load ({})\n",
                            count_of(answer, "replicas_left"), count_of(answer, "replicas_to_load"),
                            text_of(answer, "reason"))
              : "moving     nothing\n";
  const uint64_t homeless = count_of(answer, "homeless_experts");
  if (homeless > 0) page += fmt::format("no room    for {} experts\n", homeless);
  return page;
}

Result<AdminCall> admin_call(const std::vector<std::string>& words) {
  static const std::vector<std::string> kKnown = {"workers", "drain", "remove", "placement",
                                                  "balancer"};
  const std::string& what = words.front();
  if (what == "placement") return placement_call(words);
  if (what == "balancer") return balancer_call(words);
  if (what == "drain" || what == "remove") return worker_call(words);
  if (what == "workers" && words.size() == 1) {
    return AdminCall{.path = "/admin/v1/workers", .describe = describe_workers};
  }
  return fail(ErrorCode::kInvalidArgument, "{}: expected {}{}", fmt::join(words, " "),
              fmt::join(kKnown, ", "), did_you_mean(what, kKnown));
}

Command add_admin(CLI::App& app) {
  auto options = std::make_shared<AdminOptionsOfCommand>();
  Command command =
      make_command(app, "admin", "See and steer the workers of a running coordinator", kHelp);
  Flags flags(*command.app);
  flags.positionals("WHAT", options->words, "What to do: see below");
  flags.text("--url", options->url, "Where the coordinator's API is");
  flags.path("--key-file", options->key_file, "File whose first line is the key");
  flags.toggle("--wait", options->wait, "After drain: until the worker is gone");
  flags.toggle("--json", options->json, "Print the answer as the server gave it");
  command.run = [options] { return run_admin(*options); };
  return command;
}

}  // namespace pregate::cli
