// The batch policies, each of which every suite of this folder is run with.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "coordinator/scheduling/batch_policy.h"

namespace pregate::coordinator {

inline auto all_policies() {
  return ::testing::Values(BatchPolicyName::kDecodeFirst, BatchPolicyName::kPrefillFirst,
                           BatchPolicyName::kExpertAware);
}

inline std::string name_of(const ::testing::TestParamInfo<BatchPolicyName>& info) {
  std::string name(to_string(info.param));
  std::erase(name, '-');
  return name;
}

}  // namespace pregate::coordinator
