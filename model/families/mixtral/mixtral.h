// MixtralForCausalLM.
#pragma once

#include "model/families/family.h"

namespace pregate::model {

const Family& mixtral_family();

}  // namespace pregate::model
