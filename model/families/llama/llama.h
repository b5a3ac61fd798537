// Llama as it is, and as Read-ME refactors it (arXiv 2410.19123): each layer's MLP in a shared part
// and one expert per domain, and a router that chooses one expert per token for all layers from
// the token ids alone.
#pragma once

#include "model/families/family.h"

namespace pregate::model {

const Family& llama_family();

}  // namespace pregate::model
