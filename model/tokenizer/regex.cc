#include "model/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <array>
#include <optional>

#include <pcre2.h>

#include "base/check.h"
#include "model/tokenizer/utf8.h"

namespace pregate::model {
namespace {

// Bounds on one search: steps of backtracking, and the stack of JIT-compiled code. Patterns of real
// tokenizers need a few steps per character.
constexpr uint32_t kMatchLimit = 1'000'000;
constexpr size_t kJitStackStartBytes = 32 << 10;
constexpr size_t kJitStackLimitBytes = 8 << 20;

/// What one thread needs to run searches.
class MatchState {
 public:
  MatchState()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        jit_stack_(pcre2_jit_stack_create(kJitStackStartBytes, kJitStackLimitBytes, nullptr)) {
    PREGATE_CHECK(data_ != nullptr && context_ != nullptr);
    pcre2_set_match_limit(context_, kMatchLimit);
    if (jit_stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, jit_stack_);
  }
  ~MatchState() {
    pcre2_jit_stack_free(jit_stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }
  MatchState(const MatchState&) = delete;
  MatchState& operator=(const MatchState&) = delete;

  std::optional<ByteRange> search(const pcre2_code* code, std::string_view text, size_t begin) {
    const int rc = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), begin,
                               PCRE2_NO_UTF_CHECK, data_, context_);
    if (rc < 0) return std::nullopt;
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data_);
    // \K inside a lookahead can put the start behind the end.
    return ByteRange{std::min(ends[0], ends[1]), ends[1]};
  }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* jit_stack_;
};

std::string message_of(int error_code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(error_code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

using CompileContext =
    std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)>;

}  // namespace

void Regex::CodeDeleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Result<Regex> Regex::compile(std::string_view pattern) {
  PREGATE_ASSIGN(const std::string source, to_pcre2_syntax(pattern));
  const CompileContext context(pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  PREGATE_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  // In Ruby's syntax ^ and $ always mean the ends of a line.
  constexpr uint32_t kOptions =
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK;
  int error_code = 0;
  PCRE2_SIZE error_offset = 0;
  CodePtr code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), kOptions,
                             &error_code, &error_offset, context.get()));
  if (code == nullptr) {
    return fail(ErrorCode::kInvalidArgument, "cannot compile the regular expression '{}': {}",
                pattern, message_of(error_code));
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // where it fails, pcre2_match interprets
  return Regex(std::move(code));
}

void Regex::find_all(std::string_view text, std::vector<ByteRange>& matches) const {
  thread_local MatchState state;
  thread_local std::string buffer;
  matches.clear();
  text = with_known_characters(text, buffer);
  size_t pos = 0;
  while (pos <= text.size()) {
    const std::optional<ByteRange> match = state.search(code_.get(), text, pos);
    if (!match || match->begin < pos) return;
    const bool is_empty = match->begin == match->end;
    if (is_empty && !matches.empty() && matches.back().end == match->end) {
      pos += pos < text.size() ? code_point_at(text, pos).length_bytes : 1;
      continue;
    }
    matches.push_back(*match);
    pos = match->end;
  }
}

bool Regex::matches_code_point(char32_t code_point) const {
  std::string text;
  append_utf8(code_point, text);
  std::vector<ByteRange> matches;
  find_all(text, matches);
  return matches == std::vector<ByteRange>{{0, text.size()}};
}

}  // namespace pregate::model
