#define PCRE2_CODE_UNIT_WIDTH 8
#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <utility>
#include <vector>

#include <pcre2.h>

#include "model/tokenizer/regex.h"

namespace pregate::model {
namespace {

constexpr std::string_view kHexClass = "0-9A-Fa-f";
constexpr std::string_view kWordClass = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
/// Outside of [...], Oniguruma's \w has these too.
constexpr std::string_view kMoreWordCharacters = "²³¹¼½¾";
/// [:punct:], which is more than \p{Punct}.
constexpr std::string_view kPosixPunctuation = R"(\p{P}\p{S})";

using NamedClass = std::pair<std::string_view, std::string_view>;

/// Long names of Oniguruma (lower case, without separators) and what to write inside [...].
constexpr std::array kNamedClasses = std::to_array<NamedClass>({
    {"alnum", R"(\p{Alphabetic}\p{Nd})"},
    {"alpha", R"(\p{Alphabetic})"},
    {"blank", R"(\p{Zs}\t)"},
    {"cntrl", R"(\p{Cc})"},
    {"digit", R"(\p{Nd})"},
    {"lower", R"(\p{Lowercase})"},
    {"punct", R"(\p{P})"},
    {"space", R"(\s)"},
    {"upper", R"(\p{Uppercase})"},
    {"word", kWordClass},
    {"xdigit", kHexClass},
    {"letter", R"(\p{L})"},
    {"casedletter", R"(\p{L&})"},
    {"uppercaseletter", R"(\p{Lu})"},
    {"lowercaseletter", R"(\p{Ll})"},
    {"titlecaseletter", R"(\p{Lt})"},
    {"modifierletter", R"(\p{Lm})"},
    {"otherletter", R"(\p{Lo})"},
    {"mark", R"(\p{M})"},
    {"nonspacingmark", R"(\p{Mn})"},
    {"spacingmark", R"(\p{Mc})"},
    {"enclosingmark", R"(\p{Me})"},
    {"number", R"(\p{N})"},
    {"decimalnumber", R"(\p{Nd})"},
    {"letternumber", R"(\p{Nl})"},
    {"othernumber", R"(\p{No})"},
    {"punctuation", R"(\p{P})"},
    {"connectorpunctuation", R"(\p{Pc})"},
    {"dashpunctuation", R"(\p{Pd})"},
    {"openpunctuation", R"(\p{Ps})"},
    {"closepunctuation", R"(\p{Pe})"},
    {"initialpunctuation", R"(\p{Pi})"},
    {"finalpunctuation", R"(\p{Pf})"},
    {"otherpunctuation", R"(\p{Po})"},
    {"symbol", R"(\p{S})"},
    {"mathsymbol", R"(\p{Sm})"},
    {"currencysymbol", R"(\p{Sc})"},
    {"modifiersymbol", R"(\p{Sk})"},
    {"othersymbol", R"(\p{So})"},
    {"separator", R"(\p{Z})"},
    {"spaceseparator", R"(\p{Zs})"},
    {"lineseparator", R"(\p{Zl})"},
    {"paragraphseparator", R"(\p{Zp})"},
    {"other", R"(\p{C})"},
    {"control", R"(\p{Cc})"},
    {"format", R"(\p{Cf})"},
    {"unassigned", R"(\p{Cn})"},
    {"privateuse", R"(\p{Co})"},
});

bool compiles(const std::string& pattern) {
  int error_code = 0;
  PCRE2_SIZE error_offset = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_NO_UTF_CHECK, &error_code, &error_offset, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

/// What to write inside [...] for \p{name}.
std::string class_of_property(std::string_view name) {
  std::string key;
  for (const char c : name) {
    if (c != ' ' && c != '_' && c != '-') {
      key.push_back(static_cast<char>(std::tolower(static_cast<unsigned char>(c))));
    }
  }
  if (key == "word") return fmt::format("{}{}", kWordClass, kMoreWordCharacters);
  const auto* named = std::find_if(kNamedClasses.begin(), kNamedClasses.end(),
                                   [&](const NamedClass& entry) { return entry.first == key; });
  if (named != kNamedClasses.end()) return std::string(named->second);
  // A script's bare name means its extensions too in PCRE2, but not in Oniguruma.
  const std::string script = fmt::format(R"(\p{{sc:{}}})", name);
  const bool is_script = key.size() > 2 && compiles(script);
  return is_script ? script : fmt::format(R"(\p{{{}}})", name);
}

/// One escape or class name: what to write inside [...], and whether its complement is meant.
struct CharacterSet {
  std::string items;
  bool is_negated = false;

  std::string as_class() const { return fmt::format("[{}{}]", is_negated ? "^" : "", items); }
};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    groups_.push_back({});
    while (pos_ < in_.size()) PREGATE_TRY(translate_next());
    if (groups_.size() != 1) return fail_because("a group is not closed");
    out_.append(groups_.back().extra_closings, ')');
    return std::move(out_);
  }

 private:
  struct Group {
    size_t begin = 0;           // in out_
    size_t extra_closings = 0;  // groups opened for "(?i)", which lasts to the end of its group
  };

  tl::unexpected<Error> fail_because(std::string_view reason) const {
    return fail(ErrorCode::kInvalidArgument, "cannot compile the regular expression '{}': {}", in_,
                reason);
  }
  bool next_is(std::string_view text) const { return in_.substr(pos_).starts_with(text); }

  Status translate_next() {
    switch (in_[pos_]) {
      case '\\':
        return translate_escape();
      case '[':
        return translate_class();
      case '(':
        return open_group();
      case ')':
        return close_group();
      case '{':
        translate_interval();
        return {};
      case '*':
      case '+':
      case '?':
        out_ += in_[pos_++];
        return {};
      default:
        copy_character();
        return {};
    }
  }

  void copy_character() {
    atom_begin_ = out_.size();
    do {
      out_ += in_[pos_++];
    } while (pos_ < in_.size() && (static_cast<unsigned char>(in_[pos_]) & 0xC0) == 0x80);
  }

  void emit_atom(std::string_view atom) {
    atom_begin_ = out_.size();
    out_ += atom;
  }

  Status open_group() {
    if (next_is("(*")) return fail_because("'(*' is not supported");
    Group group{.begin = out_.size()};
    if (next_is("(?#")) {
      const size_t end = in_.find(')', pos_);
      if (end == std::string_view::npos) return fail_because("a comment is not closed");
      pos_ = end + 1;
      return {};
    }
    ++pos_;
    out_ += '(';
    if (next_is("?")) return translate_group_kind(group);
    groups_.push_back(group);
    return {};
  }

  /// After "(": "?:", "?=", "?<name>", ... are the same; the option m is PCRE2's s.
  Status translate_group_kind(Group group) {
    const size_t end = in_.find_first_not_of("imx-", pos_ + 1);
    if (end == std::string_view::npos) return fail_because("a group is not closed");
    std::string options(in_.substr(pos_ + 1, end - pos_ - 1));
    std::replace(options.begin(), options.end(), 'm', 's');
    if (!options.empty() && in_[end] == ')') {
      out_ += fmt::format("?{}:", options);
      ++groups_.back().extra_closings;
      pos_ = end + 1;
      return {};
    }
    constexpr std::string_view kKinds = ":=!><";
    if (kKinds.find(in_[end]) == std::string_view::npos) {
      return fail_because(fmt::format("'(?{}' is not supported", in_[end]));
    }
    out_ += fmt::format("?{}{}", options, in_[end]);
    pos_ = end + 1;
    groups_.push_back(group);
    return {};
  }

  Status close_group() {
    if (groups_.size() == 1) return fail_because("')' without '('");
    out_.append(groups_.back().extra_closings + 1, ')');
    atom_begin_ = groups_.back().begin;
    groups_.pop_back();
    ++pos_;
    return {};
  }

  /// {n}, {n,}, {,m}, {n,m}. Ruby reads "{n,m}+" as (...{n,m})+ and "{n}?" as (...{n})?.
  void translate_interval() {
    const size_t end = in_.find('}', pos_);
    const std::string_view body =
        end == std::string_view::npos ? "" : in_.substr(pos_ + 1, end - pos_ - 1);
    const size_t comma = body.find(',');
    const bool is_interval = !body.empty() && body != "," &&
                             body.find_first_not_of("0123456789,") == body.npos &&
                             (comma == body.npos || body.find(',', comma + 1) == body.npos);
    if (!is_interval) {
      emit_atom("\\{");
      ++pos_;
      return;
    }
    out_ += fmt::format("{{{}{}}}", comma == 0 ? "0" : "", body);
    pos_ = end + 1;
    const bool is_fixed = comma == body.npos;
    if (next_is("+") || (is_fixed && next_is("?"))) {
      const std::string atom = out_.substr(atom_begin_);
      out_.resize(atom_begin_);
      out_ += fmt::format("(?:{})", atom);
    }
  }

  void emit_word_boundary(bool is_negated) {
    const std::string word = fmt::format("[{}{}]", kWordClass, kMoreWordCharacters);
    const std::string_view start = is_negated ? "!" : "=";
    const std::string_view end = is_negated ? "=" : "!";
    emit_atom(fmt::format("(?:(?<{1}{0})(?!{0})|(?<{2}{0})(?={0}))", word, start, end));
  }

  Status translate_escape() {
    if (next_is("\\b") || next_is("\\B")) {
      emit_word_boundary(next_is("\\B"));
      pos_ += 2;
      return {};
    }
    const size_t begin = pos_;
    const bool is_word = next_is("\\w") || next_is("\\W");
    PREGATE_ASSIGN(std::optional<CharacterSet> set, read_set_escape());
    if (set) {
      if (is_word) set->items += kMoreWordCharacters;
      emit_atom(set->as_class());
      return {};
    }
    PREGATE_ASSIGN(const std::string escape, read_plain_escape("AzZGKRXk", begin));
    emit_atom(escape);
    return {};
  }

  /// \h \w \s \d \p{...} and their complements; nothing if another escape is next.
  Result<std::optional<CharacterSet>> read_set_escape() {
    if (pos_ + 1 >= in_.size()) return fail_because("it ends in a backslash");
    const char kind = in_[pos_ + 1];
    const bool is_upper = std::isupper(static_cast<unsigned char>(kind)) != 0;
    switch (kind) {
      case 'p':
      case 'P':
        return read_property();
      case 'h':
      case 'H':
        pos_ += 2;
        return CharacterSet{std::string(kHexClass), is_upper};
      case 'w':
      case 'W':
        pos_ += 2;
        return CharacterSet{std::string(kWordClass), is_upper};
      case 's':
      case 'S':
        pos_ += 2;
        return CharacterSet{"\\s", is_upper};
      case 'd':
      case 'D':
        pos_ += 2;
        return CharacterSet{"\\d", is_upper};
      default:
        return std::nullopt;
    }
  }

  Result<std::optional<CharacterSet>> read_property() {
    bool is_negated = in_[pos_ + 1] == 'P';
    const size_t end = in_.find('}', pos_);
    if (end == std::string_view::npos || in_.substr(pos_ + 2, 1) != "{") {
      return fail_because("\\p needs a name in braces");
    }
    std::string_view name = in_.substr(pos_ + 3, end - pos_ - 3);
    if (name.starts_with('^')) {
      is_negated = !is_negated;
      name.remove_prefix(1);
    }
    pos_ = end + 1;
    return CharacterSet{class_of_property(name), is_negated};
  }

  /// An escape that means one character, or one of `letters`, which mean the same in PCRE2.
  Result<std::string> read_plain_escape(std::string_view letters, size_t begin) {
    const char kind = in_[begin + 1];
    pos_ = begin + 2;
    if (kind == 'v') return "\\x0b";
    if (kind == 'u') {
      const std::string_view digits = in_.substr(pos_, 4);
      pos_ += digits.size();
      return fmt::format("\\x{{{}}}", digits);
    }
    const bool is_letter = std::isalpha(static_cast<unsigned char>(kind)) != 0;
    constexpr std::string_view kSameInBoth = "tnrfaex";
    if (is_letter && kSameInBoth.find(kind) == std::string_view::npos &&
        letters.find(kind) == std::string_view::npos) {
      return fail_because(fmt::format("'\\{}' is not supported", kind));
    }
    if (static_cast<unsigned char>(kind) >= 0x80) return std::string(1, kind);
    return fmt::format("\\{}", kind);
  }

  Status translate_class() {
    PREGATE_ASSIGN(const std::string expression, read_class(0));
    emit_atom(expression);
    return {};
  }

  /// One [...], which in Ruby's syntax can hold others and intersections (&&). Returns an
  /// expression that matches one character.
  Result<std::string> read_class(int depth);
  /// Up to "&&" or "]": alternatives that each match one character; the first is the plain items.
  Result<std::vector<std::string>> read_union(int depth, bool is_first);
  Status read_class_item(std::string& items, std::vector<std::string>& alternatives, int depth);
  Status read_posix_class(std::string& items, std::vector<std::string>& alternatives);

  const std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_begin_ = 0;  // in out_: what a quantifier would apply to
  std::vector<Group> groups_;
};

constexpr int kMaxClassDepth = 20;

void add_set(const CharacterSet& set, std::string& items, std::vector<std::string>& alternatives) {
  if (set.is_negated) {
    alternatives.push_back(set.as_class());
  } else {
    items += set.items;
  }
}

Status Translator::read_posix_class(std::string& items, std::vector<std::string>& alternatives) {
  const size_t end = in_.find(":]", pos_ + 2);
  if (end == std::string_view::npos) return fail_because("'[:' is not closed");
  std::string_view name = in_.substr(pos_ + 2, end - pos_ - 2);
  CharacterSet set;
  set.is_negated = name.starts_with('^');
  if (set.is_negated) name.remove_prefix(1);
  const auto* named = std::find_if(kNamedClasses.begin(), kNamedClasses.end(),
                                   [&](const NamedClass& entry) { return entry.first == name; });
  if (name == "punct") {
    set.items = kPosixPunctuation;
  } else if (named != kNamedClasses.end()) {
    set.items = named->second;
  } else {
    set.items = fmt::format("[:{}:]", name);
  }
  pos_ = end + 2;
  add_set(set, items, alternatives);
  return {};
}

Status Translator::read_class_item(std::string& items, std::vector<std::string>& alternatives,
                                   int depth) {
  if (next_is("[:")) return read_posix_class(items, alternatives);
  if (next_is("[")) {
    PREGATE_ASSIGN(std::string nested, read_class(depth + 1));
    alternatives.push_back(std::move(nested));
    return {};
  }
  if (!next_is("\\")) {
    items += in_[pos_++];
    return {};
  }
  const size_t begin = pos_;
  PREGATE_ASSIGN(const std::optional<CharacterSet> set, read_set_escape());
  if (set) {
    add_set(*set, items, alternatives);
    return {};
  }
  PREGATE_ASSIGN(const std::string escape, read_plain_escape("b", begin));
  items += escape;
  return {};
}

Result<std::vector<std::string>> Translator::read_union(int depth, bool is_first) {
  std::string items;
  std::vector<std::string> alternatives;
  if (is_first && next_is("]")) {
    items += "\\]";
    ++pos_;
  }
  while (pos_ < in_.size() && in_[pos_] != ']' && !next_is("&&")) {
    PREGATE_TRY(read_class_item(items, alternatives, depth));
  }
  if (pos_ >= in_.size()) return fail_because("'[' is not closed");
  if (!items.empty()) {
    if (items.starts_with('^')) items.insert(items.begin(), '\\');
    alternatives.insert(alternatives.begin(), fmt::format("[{}]", items));
  }
  if (alternatives.empty()) return fail_because("a character class is empty");
  return alternatives;
}

Result<std::string> Translator::read_class(int depth) {
  if (depth > kMaxClassDepth) return fail_because("character classes are nested too deep");
  ++pos_;
  const bool is_negated = next_is("^");
  if (is_negated) ++pos_;
  std::vector<std::string> operands;
  bool is_simple = true;
  do {
    if (!operands.empty()) pos_ += 2;
    PREGATE_ASSIGN(const std::vector<std::string> alternatives,
                   read_union(depth, operands.empty()));
    is_simple = is_simple && alternatives.size() == 1 && alternatives[0][1] != '^' &&
                alternatives[0][0] == '[';
    operands.push_back(alternatives.size() == 1
                           ? alternatives[0]
                           : fmt::format("(?:{})", fmt::join(alternatives, "|")));
  } while (next_is("&&"));
  ++pos_;  // the closing bracket
  if (is_simple && operands.size() == 1) {
    return is_negated ? fmt::format("[^{}", operands[0].substr(1)) : operands[0];
  }
  std::string all;
  for (size_t i = 0; i + 1 < operands.size(); ++i) all += fmt::format("(?={})", operands[i]);
  all += operands.back();
  return is_negated ? fmt::format("(?:(?!{})(?s:.))", all) : fmt::format("(?:{})", all);
}

}  // namespace

Result<std::string> to_pcre2_syntax(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace pregate::model
