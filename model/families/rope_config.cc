#include <algorithm>
#include <array>
#include <cmath>

#include "model/families/common_config.h"

namespace pregate::model {
namespace {

constexpr std::array<std::pair<std::string_view, RopeType>, 5> kRopeTypes{{
    {"default", RopeType::kDefault},
    {"linear", RopeType::kLinear},
    {"dynamic", RopeType::kDynamic},
    {"yarn", RopeType::kYarn},
    {"llama3", RopeType::kLlama3},
}};

/// "type" is the older spelling of "rope_type".
RopeType read_type(FieldReader& scaling) {
  const std::string_view key = scaling.has("rope_type") ? "rope_type" : "type";
  const std::string name = scaling.text(key, "default");
  for (const auto& [known, type] : kRopeTypes) {
    if (known == name) return type;
  }
  scaling.reject(key, "default, linear, dynamic, yarn or llama3");
  return RopeType::kDefault;
}

void read_yarn(FieldReader& scaling, RopeConfig& rope) {
  rope.beta_fast = scaling.number("beta_fast", 32.0, 0.0);
  rope.beta_slow = scaling.number("beta_slow", 1.0, 0.0);
  rope.truncate = scaling.flag("truncate", true);
  rope.attention_factor = scaling.optional_number("attention_factor");
  rope.mscale = scaling.optional_number("mscale");
  rope.mscale_all_dim = scaling.optional_number("mscale_all_dim");
  if (rope.beta_fast <= 0.0) scaling.reject("beta_fast", "more than 0");
  if (rope.beta_slow <= 0.0) scaling.reject("beta_slow", "more than 0");
}

void read_llama3(FieldReader& scaling, RopeConfig& rope) {
  rope.low_freq_factor = scaling.number("low_freq_factor", std::nullopt, 0.0);
  rope.high_freq_factor = scaling.number("high_freq_factor", std::nullopt, 0.0);
  if (rope.low_freq_factor <= 0.0) scaling.reject("low_freq_factor", "more than 0");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    scaling.reject("high_freq_factor", "more than low_freq_factor");
  }
}

/// Where the variant stretches from: what the model was trained for. A top-level field wins over
/// the one beside the factor, as in transformers 5. "dynamic" always means the model's own length.
size_t read_original_length(FieldReader& fields, FieldReader& scaling, RopeType type,
                            size_t max_position_embeddings) {
  constexpr const char* kKey = "original_max_position_embeddings";
  if (type != RopeType::kYarn && type != RopeType::kLlama3) return max_position_embeddings;
  if (fields.has(kKey)) return fields.size(kKey, std::nullopt);
  return scaling.size(kKey, max_position_embeddings);
}

void read_variant(FieldReader& fields, FieldReader& scaling, size_t max_position_embeddings,
                  RopeConfig& rope) {
  rope.original_max_position =
      read_original_length(fields, scaling, rope.type, max_position_embeddings);
  if (rope.type == RopeType::kDefault) return;
  std::optional<double> fallback;
  if (rope.type == RopeType::kYarn && scaling.is_null("factor")) {
    fallback = double(max_position_embeddings) / double(rope.original_max_position);
  }
  rope.factor = scaling.number("factor", fallback, 1.0);
  if (rope.type == RopeType::kYarn) read_yarn(scaling, rope);
  if (rope.type == RopeType::kLlama3) read_llama3(scaling, rope);
}

}  // namespace

RopeConfig read_rope(FieldReader& fields, double default_theta, size_t max_position_embeddings) {
  constexpr double kSmallestTheta = 1.0;
  RopeConfig rope;
  rope.theta = fields.number("rope_theta", default_theta, kSmallestTheta);
  FieldReader scaling =
      fields.object(fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters");
  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (scaling.has(layer_type)) scaling.reject(layer_type, "one setting for all layers");
  }
  rope.theta = scaling.number("rope_theta", rope.theta, kSmallestTheta);
  if (rope.theta <= kSmallestTheta) scaling.reject("rope_theta", "more than 1");
  rope.type = read_type(scaling);
  rope.partial_rotary_factor =
      scaling.number("partial_rotary_factor", fields.number("partial_rotary_factor", 1.0));
  // These families rotate whole heads; transformers ignores or fails on anything else.
  if (rope.partial_rotary_factor != 1.0) scaling.reject("partial_rotary_factor", "1");
  read_variant(fields, scaling, max_position_embeddings, rope);
  fields.keep_first_error(scaling.status());
  return rope;
}

size_t longest_sequence(const RopeConfig& rope, size_t max_position_embeddings) {
  const auto stretched = [&](size_t length) {
    return size_t(std::min(double(length) * rope.factor, double(kMaxContextTokens)));
  };
  switch (rope.type) {
    case RopeType::kLinear:
    case RopeType::kDynamic:
      return stretched(max_position_embeddings);
    case RopeType::kYarn:
      return std::max(max_position_embeddings, stretched(rope.original_max_position));
    case RopeType::kDefault:
    case RopeType::kLlama3:
      break;
  }
  return max_position_embeddings;
}

boost::json::object write_rope(const RopeConfig& rope) {
  boost::json::object json;
  for (const auto& [name, type] : kRopeTypes) {
    if (type == rope.type) json["rope_type"] = boost::json::string_view(name.data(), name.size());
  }
  json["factor"] = rope.factor;
  if (rope.type == RopeType::kYarn) {
    json["original_max_position_embeddings"] = rope.original_max_position;
    json["beta_fast"] = rope.beta_fast;
    json["beta_slow"] = rope.beta_slow;
    json["truncate"] = rope.truncate;
    if (rope.attention_factor) json["attention_factor"] = *rope.attention_factor;
    if (rope.mscale) json["mscale"] = *rope.mscale;
    if (rope.mscale_all_dim) json["mscale_all_dim"] = *rope.mscale_all_dim;
  }
  if (rope.type == RopeType::kLlama3) {
    json["original_max_position_embeddings"] = rope.original_max_position;
    json["low_freq_factor"] = rope.low_freq_factor;
    json["high_freq_factor"] = rope.high_freq_factor;
  }
  return json;
}

}  // namespace pregate::model
