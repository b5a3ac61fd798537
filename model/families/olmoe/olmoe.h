// OlmoeForCausalLM.
#pragma once

#include "model/families/family.h"

namespace pregate::model {

const Family& olmoe_family();

}  // namespace pregate::model
