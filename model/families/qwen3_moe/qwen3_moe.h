// Qwen3MoeForCausalLM.
#pragma once

#include "model/families/family.h"

namespace pregate::model {

const Family& qwen3_moe_family();

}  // namespace pregate::model
