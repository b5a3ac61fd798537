// Filters of texts. A value that is no text is printed first, as jinja2 does.
#include <algorithm>

#include "model/chat/jinja/failure.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/format.h"
#include "model/chat/jinja/repr.h"
#include "model/chat/jinja/text.h"

namespace pregate::model::jinja {
namespace {

template <std::string (*Function)(std::string_view)>
Value change(const Value& input, const Arguments& arguments) {
  const Bound bound("filter", arguments, {});
  return Function(str(input));
}

/// Words begin after spaces, "-" and opening brackets; unlike str.title, not after digits and
/// marks.
std::string title_words(std::string_view text) {
  std::string out;
  bool begins_word = true;
  for (const std::string& character : characters(text)) {
    out += begins_word ? upper(character) : lower(character);
    const char32_t code = character_at(character, 0).code;
    begins_word = is_space(code) || std::string_view("-({[<").find(character) != std::string::npos;
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string unescape_html(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&lt;", "<"},   {"&gt;", ">"},    {"&#39;", "'"},
      {"&#34;", "\""}, {"&quot;", "\""}, {"&amp;", "&"}};
  for (const auto& [entity, character] : kEntities) text = replace(text, entity, character, -1);
  return text;
}

/// Removes each `begin` ... `end`; one without an end stays.
std::string remove_between(std::string_view text, std::string_view begin, std::string_view end) {
  std::string out;
  while (true) {
    const size_t from = find_bytes(text, begin);
    if (from == std::string_view::npos) break;
    const size_t to = find_bytes(text, end, from + begin.size());
    if (to == std::string_view::npos) break;
    out += text.substr(0, from);
    text.remove_prefix(to + end.size());
  }
  return out.append(text);
}

std::string strip_tags(std::string_view text) {
  const std::string plain = remove_between(remove_between(text, "<!--", "-->"), "<", ">");
  std::string out;
  for (const std::string& word : split_space(plain, -1)) {
    if (!out.empty()) out += ' ';
    out += word;
  }
  return unescape_html(std::move(out));
}

Value trim(const Value& input, const Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  const std::string text = str(input);
  return bound.is_none(0) ? std::string(strip(text, true, true))
                          : strip_of(text, bound.text(0), true, true);
}

Value replace_text(const Value& input, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  const int64_t count = bound.is_none(2) ? -1 : bound.integer(2, -1);
  return replace(str(input), str(bound.value(0)), str(bound.value(1)), count);
}

Value format_text(const Value& input, const Arguments& arguments) {
  if (!arguments.positional.empty() && !arguments.keywords.empty()) {
    raise("can't handle positional and keyword arguments at the same time");
  }
  if (arguments.keywords.empty())
    return format_percent(str(input), Value::tuple(arguments.positional));
  auto dict = std::make_shared<Dict>();
  for (const auto& [name, value] : arguments.keywords) dict->set(name, value);
  return format_percent(str(input), DictPtr(std::move(dict)));
}

const std::string& require_text(std::string_view filter, const Value& input) {
  require_defined(input);
  if (input.as_text() == nullptr) raise("{} needs a string, not {}", filter, type_name(input));
  return *input.as_text();
}

Value indent(const Value& input, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  const Value width = bound.value(0, 4);
  const std::string margin =
      width.as_text() != nullptr ? *width.as_text() : repeat(" ", bound.integer(0, 4));
  const bool indents_blank = bound.boolean(2, false);
  std::string out = bound.boolean(1, false) ? margin : "";
  bool is_first = true;
  for (const std::string& line : split_lines(require_text("indent", input) + "\n", false)) {
    if (!is_first) out += '\n';
    if (!is_first && (indents_blank || !line.empty())) out += margin;
    out += line;
    check_text_size(out.size());
    is_first = false;
  }
  return out;
}

Value truncate(const Value& input, const Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t size = bound.integer(0, 255);
  const std::string end = bound.text(2, "...");
  const int64_t leeway = bound.is_none(3) ? 5 : bound.integer(3, 5);
  if (size < length(end)) raise("expected length >= {}, got {}", length(end), size);
  if (leeway < 0) raise("expected leeway >= 0, got {}", leeway);
  const std::u32string text = to_utf32(require_text("truncate", input));
  const auto whole = std::ssize(text);
  if (whole <= size || whole - size <= leeway) return input;
  std::string kept = to_utf8(text.substr(0, static_cast<size_t>(size - length(end))));
  if (!bound.boolean(1, false)) kept = split_from_right(kept, " ", 1).front();
  return kept + end;
}

Value center(const Value& input, const Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  const std::string text = str(input);
  const int64_t width = bound.integer(0, 80);
  const int64_t missing = std::max<int64_t>(0, width - length(text));
  const int64_t left = missing / 2 + (missing & width & 1);
  return repeat(" ", left) + text + repeat(" ", missing - left);
}

Value count_words(const Value& input, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  int64_t count = 0;
  bool in_word = false;
  for (const char32_t code : to_utf32(str(input))) {
    if (is_word(code) && !in_word) ++count;
    in_word = is_word(code);
  }
  return count;
}

std::string quote_url(std::string_view text, bool in_query) {
  std::string out;
  for (const char c : text) {
    const bool is_plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
        std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && !in_query);
    if (is_plain) {
      out += c;
    } else if (c == ' ' && in_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

Value url_encode(const Value& input, const Arguments& arguments) {
  const Bound bound("urlencode", arguments, {});
  const bool is_single = input.as_text() != nullptr || !is_iterable(input);
  if (is_single) return quote_url(str(input), false);
  std::vector<std::pair<Value, Value>> entries;
  if (input.as_dict() != nullptr) {
    entries = input.as_dict()->entries();
  } else {
    for (const Value& item : iterate(input)) {
      const std::vector<Value> pair = iterate(item);
      if (pair.size() != 2) raise("urlencode needs pairs");
      entries.emplace_back(pair[0], pair[1]);
    }
  }
  std::string out;
  for (const auto& [key, value] : entries) {
    if (!out.empty()) out += '&';
    out += quote_url(str(key), true) + "=" + quote_url(str(value), true);
  }
  return out;
}

}  // namespace

void add_text_filters(FilterTable& table) {
  table.insert({{"capitalize", change<capitalize>},
                {"center", center},
                {"e", change<escape_html>},
                {"escape", change<escape_html>},
                {"forceescape", change<escape_html>},
                {"format", format_text},
                {"indent", indent},
                {"lower", change<lower>},
                {"replace", replace_text},
                {"striptags", change<strip_tags>},
                {"title", change<title_words>},
                {"trim", trim},
                {"truncate", truncate},
                {"upper", change<upper>},
                {"urlencode", url_encode},
                {"wordcount", count_words}});
}

}  // namespace pregate::model::jinja
