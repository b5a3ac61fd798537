// From a request's body to what can be submitted: parsing, chat template, tokenising, and the
// checks that need the token counts. Slow for long prompts, so not for the I/O thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "coordinator/api/answer_format.h"
#include "coordinator/api/api_request.h"
#include "coordinator/api/serving_model.h"

namespace pregate::coordinator {

/// Which model names are answered for; the first is the model's own.
using ServedNames = std::vector<std::string>;

struct PreparedCall {
  GenerationFields fields;
  std::vector<CallPrompt> prompts;
  std::string model;  ///< As the answer shows it.
};

ApiResult<PreparedCall> prepare_completion(std::string_view body, const ServingModel& model,
                                           const ServedNames& names);
ApiResult<PreparedCall> prepare_chat(std::string_view body, const ServingModel& model,
                                     const ServedNames& names);

/// The bodies of the answers to /tokenize and /detokenize.
ApiResult<std::string> answer_tokenize(std::string_view body, const ServingModel& model,
                                       const ServedNames& names);
ApiResult<std::string> answer_detokenize(std::string_view body, const ServingModel& model,
                                         const ServedNames& names);

}  // namespace pregate::coordinator
