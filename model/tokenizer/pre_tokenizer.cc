#include "model/tokenizer/pre_tokenizer.h"

#include <utility>

#include "base/check.h"
#include "model/tokenizer/byte_level.h"
#include "model/tokenizer/metaspace.h"
#include "model/tokenizer/pattern.h"
#include "model/tokenizer/split.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

/// The expression GPT-2 cuts by.
constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
Pattern built_in_pattern(std::string_view source) {
  Result<Regex> regex = Regex::compile(source);
  PREGATE_CHECK(regex.has_value());
  return Pattern::regex(std::move(*regex));
}

/// Words or runs of anything else that is not white space.
Pattern words_and_signs() {
  return built_in_pattern(fmt::format(R"([{0}]+|[^{0}\s]+)", kRustWordClass));
}

/// Replaces each piece that is not a token by what `cut` makes of its text. `cut(text, parts)`
/// fills the parts.
template <typename Cut>
void cut_pieces(Pieces& input, const Cut& cut) {
  std::vector<Piece> pieces;
  pieces.reserve(input.pieces.size());
  thread_local std::vector<ByteRange> parts;
  for (const Piece& piece : input.pieces) {
    if (piece.is_token()) {
      pieces.push_back(piece);
      continue;
    }
    cut(input.text_of(piece), parts);
    for (const ByteRange part : parts) {
      if (part.begin == part.end) continue;
      pieces.push_back(
          {piece.begin + part.begin, piece.begin + part.end, piece.at_start && part.begin == 0});
    }
  }
  input.pieces = std::move(pieces);
}

/// Rewrites the text of each piece that is not a token: `rewrite(piece, text, out)` appends it.
template <typename Rewrite>
void rewrite_pieces(Pieces& input, const Rewrite& rewrite) {
  std::string text;
  text.reserve(input.text.size() + input.text.size() / 4);
  for (Piece& piece : input.pieces) {
    const size_t begin = text.size();
    if (piece.is_token()) {
      text += input.text_of(piece);
    } else {
      rewrite(piece, input.text_of(piece), text);
    }
    piece.begin = begin;
    piece.end = text.size();
  }
  input.text = std::move(text);
}

class Split : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool inverted)
      : pattern_(std::move(pattern)), behavior_(behavior), inverted_(inverted) {}

  void apply(Pieces& input) const override {
    thread_local std::vector<ByteRange> matches;
    thread_local std::vector<Span> spans;
    cut_pieces(input, [&](std::string_view text, std::vector<ByteRange>& parts) {
      pattern_.find_all(text, matches);
      spans_from_matches(matches, text.size(), inverted_, spans);
      apply_behavior(spans, behavior_, parts);
    });
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool inverted_;
};

/// Cuts at single characters.
class CharacterSplit : public PreTokenizer {
 public:
  using Predicate = bool (*)(char32_t);
  CharacterSplit(Predicate matches, SplitBehavior behavior)
      : matches_(matches), behavior_(behavior) {}

  void apply(Pieces& input) const override {
    thread_local std::vector<ByteRange> matches;
    thread_local std::vector<Span> spans;
    cut_pieces(input, [&](std::string_view text, std::vector<ByteRange>& parts) {
      matches.clear();
      for (size_t pos = 0; pos < text.size();) {
        const CodePoint c = code_point_at(text, pos);
        if (matches_(c.value)) matches.push_back({pos, pos + c.length_bytes});
        pos += c.length_bytes;
      }
      spans_from_matches(matches, text.size(), false, spans);
      apply_behavior(spans, behavior_, parts);
    });
  }

 private:
  const Predicate matches_;
  const SplitBehavior behavior_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, std::optional<Split> words)
      : add_prefix_space_(add_prefix_space), words_(std::move(words)) {}

  void apply(Pieces& input) const override {
    if (add_prefix_space_) {
      rewrite_pieces(input, [](const Piece&, std::string_view text, std::string& out) {
        if (!text.starts_with(' ')) out += ' ';
        out += text;
      });
    }
    if (words_) words_->apply(input);
    rewrite_pieces(input, [](const Piece&, std::string_view text, std::string& out) {
      append_byte_characters(text, out);
    });
  }

 private:
  const bool add_prefix_space_;
  const std::optional<Split> words_;
};

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(MetaspaceOptions options)
      : options_(std::move(options)),
        words_(Pattern::literal(options_.replacement), SplitBehavior::kMergedWithNext, false) {}

  void apply(Pieces& input) const override {
    const std::string& replacement = options_.replacement;
    const PrependScheme scheme = options_.scheme;
    rewrite_pieces(input, [&](const Piece& piece, std::string_view text, std::string& out) {
      const bool has_space = text.starts_with(' ') || text.starts_with(replacement);
      const bool prepends =
          scheme == PrependScheme::kAlways || (scheme == PrependScheme::kFirst && piece.at_start);
      if (prepends && !has_space) out += replacement;
      for (const char c : text) {
        if (c == ' ') {
          out += replacement;
        } else {
          out += c;
        }
      }
    });
    if (options_.splits) words_.apply(input);
  }

 private:
  const MetaspaceOptions options_;
  const Split words_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void apply(Pieces& input) const override {
    for (const auto& step : steps_) step->apply(input);
  }

 private:
  const std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

using PreTokenizerPtr = std::unique_ptr<PreTokenizer>;

Result<PreTokenizerPtr> make_byte_level(const JsonField& field) {
  PREGATE_ASSIGN(const bool add_prefix_space, field.bool_or("add_prefix_space", true));
  PREGATE_ASSIGN(const bool use_regex, field.bool_or("use_regex", true));
  std::optional<Split> words;
  if (use_regex) words.emplace(built_in_pattern(kGpt2Words), SplitBehavior::kIsolated, false);
  return std::make_unique<ByteLevel>(add_prefix_space, std::move(words));
}

Result<SplitBehavior> read_behavior(const JsonField& field) {
  PREGATE_ASSIGN(const std::string_view name, field.as_string());
  Result<SplitBehavior> behavior = split_behavior_from_name(name);
  if (!behavior) return fail(in_context(std::move(behavior.error()), field.path()));
  return behavior;
}

Result<PreTokenizerPtr> make_split(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField pattern_field, field.at("pattern"));
  PREGATE_ASSIGN(Pattern pattern, Pattern::from_json(pattern_field));
  PREGATE_ASSIGN(const JsonField behavior_field, field.at("behavior"));
  PREGATE_ASSIGN(const SplitBehavior behavior, read_behavior(behavior_field));
  PREGATE_ASSIGN(const bool inverted, field.bool_or("invert", false));
  return std::make_unique<Split>(std::move(pattern), behavior, inverted);
}

Result<PreTokenizerPtr> make_metaspace(const JsonField& field) {
  PREGATE_ASSIGN(MetaspaceOptions options, read_metaspace(field));
  return std::make_unique<Metaspace>(std::move(options));
}

Result<PreTokenizerPtr> make_punctuation(const JsonField& field) {
  SplitBehavior behavior = SplitBehavior::kIsolated;
  PREGATE_ASSIGN(const std::optional<JsonField> behavior_field, field.find("behavior"));
  if (behavior_field) {
    PREGATE_ASSIGN(behavior, read_behavior(*behavior_field));
  }
  return std::make_unique<CharacterSplit>(&is_punctuation, behavior);
}

Result<PreTokenizerPtr> make_digits(const JsonField& field) {
  PREGATE_ASSIGN(const bool individual, field.bool_or("individual_digits", false));
  return std::make_unique<CharacterSplit>(
      &is_numeric, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}

Result<PreTokenizerPtr> make_pre_tokenizer_sequence(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField list, field.at("pretokenizers"));
  PREGATE_ASSIGN(const std::vector<JsonField> elements, list.elements());
  std::vector<PreTokenizerPtr> steps;
  for (const JsonField& element : elements) {
    PREGATE_ASSIGN(PreTokenizerPtr step, make_pre_tokenizer(element));
    steps.push_back(std::move(step));
  }
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

}  // namespace

Result<std::unique_ptr<PreTokenizer>> make_pre_tokenizer(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField type_field, field.at("type"));
  PREGATE_ASSIGN(const std::string_view type, type_field.as_string());
  if (type == "ByteLevel") return make_byte_level(field);
  if (type == "Split") return make_split(field);
  if (type == "Metaspace") return make_metaspace(field);
  if (type == "Digits") return make_digits(field);
  if (type == "Punctuation") return make_punctuation(field);
  if (type == "Sequence") return make_pre_tokenizer_sequence(field);
  if (type == "Whitespace") {
    return std::make_unique<Split>(words_and_signs(), SplitBehavior::kRemoved, true);
  }
  if (type == "WhitespaceSplit") {
    return std::make_unique<CharacterSplit>(&is_white_space, SplitBehavior::kRemoved);
  }
  return type_field.fail_here("pre-tokenizer type '{}' is not supported", type);
}

}  // namespace pregate::model
