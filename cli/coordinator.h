// `pregate coordinator`: the process of a cluster that clients talk to.
#pragma once

#include <functional>

#include "cli/options.h"

namespace pregate::cli {

struct CoordinatorOptions {
  ModelOptions model;
  BatchingOptions batching;
  HttpOptions http;
  AdminOptions admin;
  ClusterOptions cluster;
  ListenOptions listen;  ///< Of `pregate coordinator` only.
  DispatchOptions dispatch;
  BalanceOptions balance;
  router::LookaheadOptions lookahead;
  GeneralOptions general;
};

void add_coordinator_flags(Flags& flags, CoordinatorOptions& options, Command& command);
/// Errors of settings that only make sense together.
Status check(const CoordinatorOptions& options);

Command add_coordinator(CLI::App& app, std::function<Status(const CoordinatorOptions&)> run);

}  // namespace pregate::cli
