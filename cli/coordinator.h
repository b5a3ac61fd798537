// `pregate coordinator`: the process of a cluster that clients talk to.
#pragma once

#include <functional>

#include "cli/options.h"

namespace pregate::cli {

struct CoordinatorOptions {
  ModelOptions model;
  BatchingOptions batching;
  HttpOptions http;
  ClusterOptions cluster;
  DispatchOptions dispatch;
  GeneralOptions general;
};

Command add_coordinator(CLI::App& app, std::function<Status(const CoordinatorOptions&)> run);

}  // namespace pregate::cli
