// The program as a user meets it, in this process.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cli/app.h"

namespace pregate::cli {

class CommandLineTest : public testing::Test {
 protected:
  /// Its exit status. No environment variable is set.
  int run(const std::vector<std::string>& arguments) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const int code = run_app(arguments, [](const std::string&) { return std::nullopt; });
    output_ = testing::internal::GetCapturedStdout();
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  std::string output_, errors_;  // of the last run
};

}  // namespace pregate::cli
