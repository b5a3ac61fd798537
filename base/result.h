// Errors as values: every call that can fail for reasons outside this program returns Result<T>.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <tl/expected.hpp>

namespace pregate {

/// A small closed set; the number is also what travels on the wire, so never reuse one.
enum class ErrorCode : uint8_t {
  kUnknown = 0,            ///< A code from a newer peer.
  kInvalidArgument = 1,    ///< The caller asked for something that can never work.
  kNotFound = 2,           ///< A named file, tensor, model, ... does not exist.
  kDataLoss = 3,           ///< A file or message is damaged.
  kUnavailable = 4,        ///< A peer is gone or not ready; another one may answer.
  kDeadlineExceeded = 5,   ///< No answer in time.
  kResourceExhausted = 6,  ///< Out of memory, queue or cache room.
  kCancelled = 7,          ///< The caller gave up.
  kUnimplemented = 8,      ///< Valid, but this build or version does not do it.
  kInternal = 9,           ///< A fault of this program that was contained.
};

std::string_view to_string(ErrorCode code);

/// What went wrong, in words for the person who must act on it: names the file, field, flag or
/// peer, and what was expected.
struct Error {
  ErrorCode code = ErrorCode::kUnknown;
  std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// `return fail(ErrorCode::kNotFound, "{}: no such tensor", name);`
template <typename... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

/// The same error with "context: " put before its message.
Error in_context(Error error, std::string_view context);

}  // namespace pregate

#define PREGATE_CONCAT_INNER(a, b) a##b
#define PREGATE_CONCAT(a, b) PREGATE_CONCAT_INNER(a, b)

/// Returns the error of a Status or Result expression from the enclosing function, if it has one.
#define PREGATE_TRY(expr)                                                           \
  do {                                                                              \
    auto&& pregate_status = (expr);                                                 \
    if (!pregate_status) return ::pregate::fail(std::move(pregate_status.error())); \
  } while (false)

/// `PREGATE_ASSIGN(auto file, MappedFile::open(path));` assigns the value or returns the error.
#define PREGATE_ASSIGN(lhs, expr) \
  PREGATE_ASSIGN_IMPL(PREGATE_CONCAT(pregate_result_, __LINE__), lhs, expr)
#define PREGATE_ASSIGN_IMPL(tmp, lhs, expr)                 \
  auto tmp = (expr);                                        \
  if (!tmp) return ::pregate::fail(std::move(tmp.error())); \
  lhs = std::move(*tmp)
