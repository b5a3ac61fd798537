// `pregate admin`: what an operator asks of a running coordinator, and tells it to do.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "cli/command.h"

namespace pregate::cli {

struct AdminOptionsOfCommand {
  std::string url = "http://127.0.0.1:8000";
  std::filesystem::path key_file;
  std::vector<std::string> words;  ///< What to do: "drain", "worker-2".
  bool wait = false;
  bool json = false;
};

/// What to send for `words`.
struct AdminCall {
  std::string method = "GET";
  std::string path;
  std::string body;
  /// Shows the answer to people.
  std::string (*describe)(const boost::json::object&) = nullptr;
  std::string drained;  ///< The worker that is to drain, for --wait.
};

/// kInvalidArgument says what can be asked. Reads the file of `placement set FILE`.
Result<AdminCall> admin_call(const std::vector<std::string>& words);

// Tables for people.
std::string describe_workers(const boost::json::object& answer);
std::string describe_placement(const boost::json::object& answer);
std::string describe_balancer_answer(const boost::json::object& answer);

Command add_admin(CLI::App& app);

}  // namespace pregate::cli
