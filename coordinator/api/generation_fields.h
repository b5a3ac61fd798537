// The fields that completions and chat share.
#pragma once

#include <optional>
#include <vector>

#include "coordinator/api/api_request.h"
#include "coordinator/api/field_reader.h"

namespace pregate::coordinator {

/// As vLLM's --max-logprobs.
inline constexpr int64_t kMaxLogprobs = 20;

void read_generation_fields(FieldReader& in, GenerationFields& out, const RequestRules& rules);
/// Relations between fields; call when all are read.
void check_generation_fields(FieldReader& in, const GenerationFields& fields);
/// Ids in [0, vocab_size).
std::vector<TokenId> read_token_ids(FieldReader& in, std::string_view name,
                                    const boost::json::array& ids, size_t vocab_size);

}  // namespace pregate::coordinator
