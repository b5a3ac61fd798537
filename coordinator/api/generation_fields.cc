#include "coordinator/api/generation_fields.h"

#include <array>
#include <charconv>
#include <limits>

#include <fmt/format.h>

namespace pregate::coordinator {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxChoices = 128;
constexpr size_t kMaxStopStrings = 64;
constexpr size_t kMaxStopBytes = 1024;

/// Fields of OpenAI or vLLM that would change the answer and that this server does not do.
constexpr std::array<std::string_view, 11> kUnsupported = {
    "structured_outputs", "guided_json",       "guided_regex",  "guided_choice",
    "guided_grammar",     "prompt_embeds",     "chat_template", "truncate_prompt_tokens",
    "logits_processors",  "allowed_token_ids", "bad_words"};
constexpr std::array<std::string_view, 2> kUnsupportedFlags = {"use_beam_search",
                                                               "continue_final_message"};

bool is_empty(const json::value& value) {
  return (value.is_array() && value.get_array().empty()) ||
         (value.is_object() && value.get_object().empty()) ||
         (value.is_string() && value.get_string().empty());
}

void refuse_unsupported(FieldReader& in) {
  for (const std::string_view name : kUnsupported) {
    const json::value* value = in.find(name);
    if (value != nullptr && !is_empty(*value)) in.fail(name, "not supported by this server");
  }
  for (const std::string_view name : kUnsupportedFlags) {
    bool flag = false;
    in.read(name, flag);
    if (flag) in.fail(name, "not supported by this server");
  }
  const json::object* format = in.object("response_format");
  if (format == nullptr) return;
  const json::value* type = format->if_contains("type");
  if (type == nullptr || !type->is_string() || type->get_string() != "text") {
    in.fail("response_format", "only {\"type\": \"text\"} is supported");
  }
}

void read_sampling(FieldReader& in, engine::SamplingParams& out) {
  constexpr double kMax = std::numeric_limits<float>::max();
  in.read("temperature", out.temperature, {0.0, 2.0});
  in.read("top_p", out.top_p, {0.0, 1.0, true});
  in.read("top_k", out.top_k, {-1, kMaxInt});
  in.read("min_p", out.min_p, {0.0, 1.0});
  in.read("presence_penalty", out.presence_penalty, {-2.0, 2.0});
  in.read("frequency_penalty", out.frequency_penalty, {-2.0, 2.0});
  in.read("repetition_penalty", out.repetition_penalty, {0.0, kMax, true});
  in.read("seed", out.seed,
          {std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()});
}

void read_logit_bias(FieldReader& in, engine::SamplingParams& out, size_t vocab_size) {
  const json::object* biases = in.object("logit_bias");
  if (biases == nullptr) return;
  for (const auto& [key, value] : *biases) {
    TokenId id = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == key.data() + key.size();
    if (!whole || id < 0 || static_cast<size_t>(id) >= vocab_size) {
      return in.fail("logit_bias", fmt::format("\"{}\" is not a token id below {}",
                                               std::string_view(key), vocab_size));
    }
    const double bias = value.is_number() ? value.to_number<double>() : 1e9;
    if (bias < -100.0 || bias > 100.0) {
      return in.fail("logit_bias",
                     fmt::format("expected a number in [-100, 100] for token {}", id));
    }
    out.logit_bias[id] = static_cast<float>(bias);
  }
}

void read_stop_string(FieldReader& in, const json::value& value, std::vector<std::string>& out) {
  const bool usable = value.is_string() && !value.get_string().empty() &&
                      value.get_string().size() <= kMaxStopBytes;
  if (!usable) {
    return in.fail("stop", fmt::format("expected a string of 1 to {} bytes, or a list of such",
                                       kMaxStopBytes));
  }
  out.emplace_back(value.get_string());
}

void read_stop(FieldReader& in, GenerationRequest& out, size_t vocab_size) {
  if (const json::value* stop = in.find("stop")) {
    if (!stop->is_array()) {
      read_stop_string(in, *stop, out.stop);
    } else if (stop->get_array().size() > kMaxStopStrings) {
      in.fail("stop", fmt::format("at most {} strings", kMaxStopStrings));
    } else {
      for (const json::value& value : stop->get_array()) read_stop_string(in, value, out.stop);
    }
  }
  if (const json::array* ids = in.array("stop_token_ids")) {
    out.stop_token_ids = read_token_ids(in, "stop_token_ids", *ids, vocab_size);
  }
}

void read_stream_options(FieldReader& in, GenerationFields& out) {
  const json::object* options = in.object("stream_options");
  if (options == nullptr) return;
  if (!out.stream) return in.fail("stream_options", "only allowed with \"stream\": true");
  FieldReader inner(*options, "stream_options.");
  inner.read("include_usage", out.include_usage);
  inner.read("continuous_usage_stats", out.continuous_usage);
  if (inner.error()) in.fail("stream_options", inner.error()->message);
}

void read_choices(FieldReader& in, GenerationRequest& out) {
  in.read("n", out.num_choices, {1, kMaxChoices});
  std::optional<uint32_t> best_of;
  in.read("best_of", best_of, {1, kMaxChoices});
  if (best_of && *best_of != out.num_choices) {
    in.fail("best_of", "only supported when equal to n");
  }
}

}  // namespace

std::vector<TokenId> read_token_ids(FieldReader& in, std::string_view name, const json::array& ids,
                                    size_t vocab_size) {
  std::vector<TokenId> out;
  out.reserve(ids.size());
  for (const json::value& value : ids) {
    const auto id = whole_number(value);
    if (!id || *id < 0 || static_cast<uint64_t>(*id) >= vocab_size) {
      in.fail(name, fmt::format("expected token ids from 0 to {}, got {}", vocab_size - 1,
                                std::string_view(json::serialize(value)).substr(0, 40)));
      break;
    }
    out.push_back(static_cast<TokenId>(*id));
  }
  return out;
}

void read_generation_fields(FieldReader& in, GenerationFields& out, const RequestRules& rules) {
  GenerationRequest& generation = out.generation;
  in.read("model", out.model);
  refuse_unsupported(in);
  generation.sampling = rules.default_sampling;
  read_sampling(in, generation.sampling);
  read_logit_bias(in, generation.sampling, rules.vocab_size);
  read_stop(in, generation, rules.vocab_size);
  read_choices(in, generation);
  in.read("max_tokens", out.max_tokens, {0, kMaxInt});
  in.read("min_tokens", generation.min_tokens, {0, kMaxInt});
  in.read("ignore_eos", generation.ignore_eos);
  in.read("include_stop_str_in_output", generation.include_stop_in_text);
  in.read("skip_special_tokens", generation.skip_special_tokens);
  in.read("prompt_logprobs", generation.prompt_logprobs, {0, kMaxLogprobs});
  out.return_prompt_logprobs = generation.prompt_logprobs.has_value();
  in.read("stream", out.stream);
  read_stream_options(in, out);
  in.read("echo", out.echo);
  in.read("add_special_tokens", out.add_special_tokens);
  in.read("return_token_ids", out.return_token_ids);
  in.read("return_tokens_as_token_ids", out.tokens_as_ids);
}

void check_generation_fields(FieldReader& in, const GenerationFields& fields) {
  if (fields.stream && fields.generation.prompt_logprobs) {
    in.fail("prompt_logprobs", "not available with \"stream\": true");
  }
  if (fields.max_tokens && fields.generation.min_tokens > *fields.max_tokens) {
    in.fail("min_tokens", fmt::format("must not be above max_tokens ({})", *fields.max_tokens));
  }
}

}  // namespace pregate::coordinator
