#include <array>

#include "model/families/family.h"
#include "model/families/llama/llama.h"
#include "model/families/mixtral/mixtral.h"
#include "model/families/olmoe/olmoe.h"
#include "model/families/qwen2_moe/qwen2_moe.h"
#include "model/families/qwen3_moe/qwen3_moe.h"

namespace pregate::model {

std::span<const Family* const> families() {
  static const std::array<const Family*, 5> kFamilies{&llama_family(), &mixtral_family(),
                                                      &olmoe_family(), &qwen2_moe_family(),
                                                      &qwen3_moe_family()};
  return kFamilies;
}

}  // namespace pregate::model
