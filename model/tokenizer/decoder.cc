#include "model/tokenizer/decoder.h"

#include <utility>

#include "model/tokenizer/decode_steps.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

constexpr uint32_t kStripLimit = 1 << 16;

using Factories = std::vector<DecodeStepFactory>;

Status add_replace(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(const JsonField pattern_field, field.at("pattern"));
  PREGATE_ASSIGN(Pattern pattern, Pattern::from_json(pattern_field));
  PREGATE_ASSIGN(const std::string_view content, field.string_at("content"));
  factories.emplace_back([shared = std::make_shared<const Pattern>(std::move(pattern)),
                          text = std::string(content)] { return make_replace_step(shared, text); });
  return {};
}

Status add_strip(const JsonField& field, Factories& factories) {
  StripOptions options;
  PREGATE_ASSIGN(const JsonField content, field.at("content"));
  PREGATE_ASSIGN(options.content, content.as_string());
  if (options.content.empty() ||
      code_point_at(options.content, 0).length_bytes != options.content.size()) {
    return content.fail_here("expected one character");
  }
  PREGATE_ASSIGN(const JsonField start, field.at("start"));
  PREGATE_ASSIGN(options.num_at_start, start.as_number_below(kStripLimit));
  PREGATE_ASSIGN(const JsonField stop, field.at("stop"));
  PREGATE_ASSIGN(options.num_at_end, stop.as_number_below(kStripLimit));
  factories.emplace_back([options] { return make_strip_step(options); });
  return {};
}

Status add_bpe(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(const JsonField suffix_field, field.at("suffix"));
  PREGATE_ASSIGN(const std::string_view suffix, suffix_field.as_string());
  if (suffix.empty()) return suffix_field.fail_here("expected a suffix that is not empty");
  factories.emplace_back([text = std::string(suffix)] { return make_bpe_step(text); });
  return {};
}

Status add_word_piece(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(const std::string_view prefix, field.string_at("prefix"));
  PREGATE_ASSIGN(const bool cleanup, field.bool_or("cleanup", true));
  factories.emplace_back(
      [text = std::string(prefix), cleanup] { return make_word_piece_step(text, cleanup); });
  return {};
}

Status add_metaspace(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(MetaspaceOptions options, read_metaspace(field));
  factories.emplace_back([options] { return make_metaspace_step(options); });
  return {};
}

Status add_steps(const JsonField& field, Factories& factories);

Status add_sequence(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(const JsonField list, field.at("decoders"));
  PREGATE_ASSIGN(const std::vector<JsonField> elements, list.elements());
  for (const JsonField& element : elements) PREGATE_TRY(add_steps(element, factories));
  return {};
}

Status add_steps(const JsonField& field, Factories& factories) {
  PREGATE_ASSIGN(const JsonField type_field, field.at("type"));
  PREGATE_ASSIGN(const std::string_view type, type_field.as_string());
  if (type == "Replace") return add_replace(field, factories);
  if (type == "Strip") return add_strip(field, factories);
  if (type == "Metaspace") return add_metaspace(field, factories);
  if (type == "BPEDecoder") return add_bpe(field, factories);
  if (type == "WordPiece") return add_word_piece(field, factories);
  if (type == "Sequence") return add_sequence(field, factories);
  if (type == "ByteLevel") {
    factories.emplace_back(&make_byte_level_step);
  } else if (type == "ByteFallback") {
    factories.emplace_back(&make_byte_fallback_step);
  } else if (type == "Fuse") {
    factories.emplace_back(&make_fuse_step);
  } else {
    return type_field.fail_here("decoder type '{}' is not supported", type);
  }
  return {};
}

}  // namespace

/// The end of the chain: collects the text.
class DecodeChain::Sink : public DecodeStep {
 public:
  void on_text(std::string_view fragment) override { text += fragment; }
  void on_token_end() override {}
  void on_finish() override {}

  std::string text;
};

DecodeChain::DecodeChain(const std::vector<DecodeStepFactory>& factories)
    : sink_(std::make_unique<Sink>()) {
  for (const DecodeStepFactory& make_step : factories) steps_.push_back(make_step());
  for (size_t i = 0; i < steps_.size(); ++i) {
    steps_[i]->set_next(i + 1 < steps_.size() ? steps_[i + 1].get() : sink_.get());
  }
}

DecodeChain::DecodeChain(DecodeChain&&) noexcept = default;
DecodeChain::~DecodeChain() = default;

DecodeStep& DecodeChain::first() { return steps_.empty() ? *sink_ : *steps_.front(); }

void DecodeChain::push(std::string_view token, std::string& out) {
  first().on_text(token);
  first().on_token_end();
  out += std::exchange(sink_->text, {});
}

void DecodeChain::finish(std::string& out) {
  first().on_finish();
  out += std::exchange(sink_->text, {});
}

Decoder::Decoder() { factories_.emplace_back(&make_join_step); }

Result<Decoder> Decoder::from_json(const JsonField& field) {
  Factories factories;
  PREGATE_TRY(add_steps(field, factories));
  return Decoder(std::move(factories));
}

}  // namespace pregate::model
