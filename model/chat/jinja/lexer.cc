#include "model/chat/jinja/lexer.h"

#include <algorithm>
#include <array>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/literals.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

constexpr size_t kNowhere = std::string_view::npos;

/// "\r\n" and "\r" are line ends too, and one line end at the end of the template does not count.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
      continue;
    }
    out += '\n';
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

char closing(char bracket) { return bracket == '(' ? ')' : bracket == '[' ? ']' : '}'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) read_data();
    if (!tokens_.empty()) line_ = tokens_.back().line;  // not that of trailing empty lines
    add(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return source_.substr(position_); }
  bool at(std::string_view text) const { return rest().starts_with(text); }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void advance(size_t size_bytes) {
    const std::string_view passed = source_.substr(position_, size_bytes);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    position_ += passed.size();
    if (!passed.empty()) at_line_start_ = passed.back() == '\n';
  }

  void skip_space() { advance(rest().size() - strip(rest(), true, false).size()); }

  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at != kNowhere; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && std::string_view("%{#").find(source_[at + 1]) != kNowhere) {
        return at;
      }
    }
    return kNowhere;
  }

  /// Text up to the next tag, and the tag.
  void read_data() {
    const size_t tag = find_tag(position_);
    if (tag == kNowhere) {
      add(TokenKind::kData, std::string(rest()));
      advance(rest().size());
      return;
    }
    const char kind = source_[tag + 1];
    add_data_before(tag, tag + 2, kind != '{');
    const int begin_line = line_;
    advance(2);
    if (at("-") || at("+")) advance(1);
    if (kind == '#') {
      skip_comment();
    } else if (kind == '{') {
      tokens_.push_back({TokenKind::kPrintBegin, begin_line, "{{"});
      read_tag(TokenKind::kPrintEnd, "}}");
    } else if (const size_t size = raw_tag_size("raw", false); size > 0) {
      advance(size);
      read_raw();
    } else {
      tokens_.push_back({TokenKind::kBlockBegin, begin_line, "{%"});
      read_tag(TokenKind::kBlockEnd, "%}");
    }
  }

  /// Adds the text up to `tag`, stripped as the sign at `sign` and lstrip_blocks ask for.
  void add_data_before(size_t tag, size_t sign, bool strips_indent) {
    std::string_view text = source_.substr(position_, tag - position_);
    const char mark = sign < source_.size() ? source_[sign] : '\0';
    const size_t size = text.size();
    if (mark == '-') {
      text = strip(text, false, true);
    } else if (mark != '+' && strips_indent) {
      const size_t newline = text.rfind('\n');
      const size_t line_begin = newline == kNowhere ? 0 : newline + 1;
      const bool whole_line = newline != kNowhere || at_line_start_;
      if (whole_line && strip(text.substr(line_begin), true, false).empty()) {
        text = text.substr(0, line_begin);
      }
    }
    if (!text.empty()) add(TokenKind::kData, std::string(text));
    advance(size);
  }

  /// What follows the end of a block or comment: "-" eats white space, otherwise trim_blocks one
  /// line end (unless "+").
  void finish_block(char sign) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && at("\n")) {
      advance(1);
    }
  }

  void skip_comment() {
    const size_t end = source_.find("#}", position_);
    if (end == kNowhere) raise_at(line_, "Missing end of comment tag");
    const char sign = end > position_ ? source_[end - 1] : '\0';
    advance(end + 2 - position_);
    finish_block(sign);
  }

  /// Size of "raw %}" or "endraw %}" with the spaces within, 0 if it is not there. Only the end tag
  /// knows the "+" sign.
  size_t raw_tag_size(std::string_view word, bool allows_plus) const {
    std::string_view text = strip(rest(), true, false);
    if (!text.starts_with(word)) return 0;
    text = strip(text.substr(word.size()), true, false);
    if (text.starts_with("-") || (allows_plus && text.starts_with("+"))) text.remove_prefix(1);
    if (!text.starts_with("%}")) return 0;
    return rest().size() - text.size() + 2;
  }

  void read_raw() {
    if (source_[position_ - 3] == '-') skip_space();
    const size_t begin = position_;
    const int begin_line = line_;
    const bool begin_at_line_start = at_line_start_;
    for (size_t tag = source_.find("{%", position_); tag != kNowhere;
         tag = source_.find("{%", tag + 2)) {
      advance(tag + 2 - position_);
      if (at("-") || at("+")) advance(1);
      const size_t size = raw_tag_size("endraw", true);
      if (size == 0) continue;
      const size_t after = position_ + size;
      position_ = begin;
      line_ = begin_line;
      at_line_start_ = begin_at_line_start;
      add_data_before(tag, tag + 2, true);
      advance(after - position_);
      finish_block(source_[after - 3]);
      return;
    }
    raise_at(begin_line, "Missing end of raw directive");
  }

  /// The tokens of a tag up to and with its end.
  void read_tag(TokenKind end_kind, std::string_view end) {
    while (true) {
      skip_space();
      if (position_ >= source_.size()) return;  // the parser reports the end of the template
      if (brackets_.empty() && read_tag_end(end_kind, end)) return;
      read_token();
    }
  }

  bool read_tag_end(TokenKind kind, std::string_view end) {
    const bool is_block = kind == TokenKind::kBlockEnd;
    const bool is_signed = at("-") || (is_block && at("+"));
    if (!rest().substr(is_signed ? 1 : 0).starts_with(end)) return false;
    const char sign = is_signed ? source_[position_] : '\0';
    add(kind, std::string(end));
    advance(end.size() + (is_signed ? 1 : 0));
    if (is_block || sign == '-') finish_block(sign);
    return true;
  }

  void read_token() {
    const char first = source_[position_];
    const Character character = character_at(source_, position_);
    const bool after_dot = !tokens_.empty() && tokens_.back().is_operator(".");
    if (first >= '0' && first <= '9') {
      read_number_token(after_dot);
    } else if (is_word(character.code)) {
      read_name();
    } else if (first == '\'' || first == '"') {
      read_string(first);
    } else {
      read_operator();
    }
  }

  /// After a dot only an integer may stand ("x.0.1" is two subscripts).
  void read_number_token(bool after_dot) {
    std::string_view text = rest();
    if (after_dot) text = text.substr(0, text.find_first_not_of("0123456789"));
    const NumberLiteral number = read_number(text, line_);
    add(TokenKind::kNumber, std::string(text.substr(0, number.size_bytes)));
    tokens_.back().number = number.value;
    advance(number.size_bytes);
  }

  void read_name() {
    size_t end = position_;
    while (end < source_.size()) {
      const Character character = character_at(source_, end);
      if (!is_word(character.code)) break;
      end += character.size_bytes;
    }
    add(TokenKind::kName, std::string(source_.substr(position_, end - position_)));
    advance(end - position_);
  }

  void read_string(char quote) {
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) {
      raise_at(line_, "unexpected char {} (a string that does not end)", quote);
    }
    const std::string_view inner = source_.substr(position_ + 1, end - position_ - 1);
    add(TokenKind::kString, unescape(inner, line_));
    advance(end + 1 - position_);
  }

  void read_operator() {
    constexpr std::array<std::string_view, 6> kPairs = {"//", "**", "==", "!=", ">=", "<="};
    constexpr std::string_view kSingles = "+-/*%~[](){}><=.:|,;";
    const auto* pair =
        std::find_if(kPairs.begin(), kPairs.end(), [&](std::string_view sign) { return at(sign); });
    const size_t size = pair != kPairs.end() ? pair->size() : 1;
    const char sign = source_[position_];
    if (size == 1 && kSingles.find(sign) == kNowhere) {
      const auto character = rest().substr(0, character_at(source_, position_).size_bytes);
      raise_at(line_, "unexpected char '{}'", character);
    }
    balance(sign);
    add(TokenKind::kOperator, std::string(rest().substr(0, size)));
    advance(size);
  }

  void balance(char sign) {
    if (sign == '(' || sign == '[' || sign == '{') brackets_ += closing(sign);
    if (sign != ')' && sign != ']' && sign != '}') return;
    if (brackets_.empty()) raise_at(line_, "unexpected '{}'", sign);
    const char expected = brackets_.back();
    if (sign != expected) raise_at(line_, "unexpected '{}', expected '{}'", sign, expected);
    brackets_.pop_back();
  }

  std::string_view source_;
  size_t position_ = 0;
  int line_ = 1;
  bool at_line_start_ = true;
  std::string brackets_;  // the closing ones that are still due
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) {
  const std::string normalized = normalize_newlines(source);
  return Lexer(normalized).run();
}

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template data / text";
    case TokenKind::kPrintBegin:
      return "begin of print statement";
    case TokenKind::kPrintEnd:
      return "end of print statement";
    case TokenKind::kBlockBegin:
      return "begin of statement block";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kString:
      return "string";
    case TokenKind::kEnd:
      return "end of template";
    default:
      return token.text;
  }
}

}  // namespace pregate::model::jinja
