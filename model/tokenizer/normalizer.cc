#include "model/tokenizer/normalizer.h"

#include <utility>
#include <vector>

#include "model/tokenizer/byte_level.h"
#include "model/tokenizer/pattern.h"
#include "model/tokenizer/unicode.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalForm form) : form_(form) {}
  void apply(NormalizedText& input) const override { input.text = normalize(input.text, form_); }

 private:
  const NormalForm form_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalizedText& input) const override { input.text = lowercase(input.text); }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(NormalizedText& input) const override {
    std::string mapped;
    append_byte_characters(input.text, mapped);
    input.text = std::move(mapped);
  }
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}

  void apply(NormalizedText& input) const override {
    std::string& text = input.text;
    size_t begin = 0;
    size_t end = text.size();
    while (left_ && begin < end) {
      const CodePoint c = code_point_at(text, begin);
      if (!is_white_space(c.value)) break;
      begin += c.length_bytes;
    }
    while (right_ && end > begin) {
      const CodePoint c = code_point_before(text, end);
      if (!is_white_space(c.value)) break;
      end -= c.length_bytes;
    }
    if (begin > 0) input.at_start = false;
    text = text.substr(begin, end - begin);
  }

 private:
  const bool left_;
  const bool right_;
};

/// Removes or replaces single characters.
class CharacterMap : public Normalizer {
 public:
  static constexpr char32_t kRemove = 0x110000;
  using Function = char32_t (*)(char32_t);
  explicit CharacterMap(Function function) : function_(function) {}

  void apply(NormalizedText& input) const override {
    std::string out;
    out.reserve(input.text.size());
    for (size_t pos = 0; pos < input.text.size();) {
      const CodePoint c = code_point_at(input.text, pos);
      const char32_t mapped = function_(c.value);
      if (mapped != kRemove) append_utf8(mapped, out);
      if (mapped == kRemove && pos == 0) input.at_start = false;
      pos += c.length_bytes;
    }
    input.text = std::move(out);
  }

 private:
  const Function function_;
};

char32_t without_mark(char32_t c) { return is_mark(c) ? CharacterMap::kRemove : c; }

/// The cleaning of Google's NMT: controls go, odd spaces become spaces.
char32_t clean_for_nmt(char32_t c) {
  const bool is_control = (c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) ||
                          c == 0x7F || c == 0x8F || c == 0x9F;
  if (is_control) return CharacterMap::kRemove;
  const bool is_space = c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 ||
                        (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                        c == 0xFEFF || c == 0xFFFD;
  return is_space ? U' ' : c;
}

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(NormalizedText& input) const override {
    if (!input.text.empty()) input.text.insert(0, prefix_);
  }

 private:
  const std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(NormalizedText& input) const override {
    thread_local std::vector<ByteRange> matches;
    pattern_.find_all(input.text, matches);
    if (matches.empty()) return;
    // What replaces several characters counts as coming from the last of them.
    const ByteRange first = matches.front();
    if (first.begin == 0 && first.end > 0 &&
        (content_.empty() || first.end > code_point_at(input.text, 0).length_bytes)) {
      input.at_start = false;
    }
    input.text = replace_matches(input.text, matches, content_);
  }

 private:
  const Pattern pattern_;
  const std::string content_;
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void apply(NormalizedText& input) const override {
    for (const auto& step : steps_) step->apply(input);
  }

 private:
  const std::vector<std::unique_ptr<Normalizer>> steps_;
};

using NormalizerPtr = std::unique_ptr<Normalizer>;

Result<NormalizerPtr> make_normalizer_sequence(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField list, field.at("normalizers"));
  PREGATE_ASSIGN(const std::vector<JsonField> elements, list.elements());
  std::vector<NormalizerPtr> steps;
  for (const JsonField& element : elements) {
    PREGATE_ASSIGN(NormalizerPtr step, make_normalizer(element));
    steps.push_back(std::move(step));
  }
  return std::make_unique<NormalizerSequence>(std::move(steps));
}

Result<NormalizerPtr> make_replace(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField pattern_field, field.at("pattern"));
  PREGATE_ASSIGN(Pattern pattern, Pattern::from_json(pattern_field));
  PREGATE_ASSIGN(const std::string_view content, field.string_at("content"));
  return std::make_unique<Replace>(std::move(pattern), std::string(content));
}

Result<NormalizerPtr> make_strip(const JsonField& field) {
  PREGATE_ASSIGN(const bool left, field.bool_or("strip_left", true));
  PREGATE_ASSIGN(const bool right, field.bool_or("strip_right", true));
  return std::make_unique<Strip>(left, right);
}

}  // namespace

Result<std::unique_ptr<Normalizer>> make_normalizer(const JsonField& field) {
  PREGATE_ASSIGN(const JsonField type_field, field.at("type"));
  PREGATE_ASSIGN(const std::string_view type, type_field.as_string());
  if (type == "NFC") return std::make_unique<UnicodeForm>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "StripAccents") return std::make_unique<CharacterMap>(&without_mark);
  if (type == "Nmt") return std::make_unique<CharacterMap>(&clean_for_nmt);
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "Strip") return make_strip(field);
  if (type == "Replace") return make_replace(field);
  if (type == "Sequence") return make_normalizer_sequence(field);
  if (type == "Prepend") {
    PREGATE_ASSIGN(const std::string_view prefix, field.string_at("prepend"));
    return std::make_unique<Prepend>(std::string(prefix));
  }
  return type_field.fail_here("normalizer type '{}' is not supported", type);
}

}  // namespace pregate::model
