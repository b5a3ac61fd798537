// Qwen2MoeForCausalLM.
#pragma once

#include "model/families/family.h"

namespace pregate::model {

const Family& qwen2_moe_family();

}  // namespace pregate::model
