// How the interpreter reports that a template cannot be parsed or rendered.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/result.h"

namespace pregate::model::jinja {

/// Thrown inside model/chat only: ChatTemplate turns it into an Error.
class Failure : public std::runtime_error {
 public:
  Failure(ErrorCode code, const std::string& message, int line = 0)
      : std::runtime_error(message), code_(code), line_(line) {}

  ErrorCode code() const { return code_; }
  int line() const { return line_; }  ///< 0: where the evaluator stands.

 private:
  ErrorCode code_;
  int line_;
};

/// The template called raise_exception: its message is for the user, word for word.
class RaisedByTemplate : public Failure {
 public:
  explicit RaisedByTemplate(const std::string& message)
      : Failure(ErrorCode::kInvalidArgument, message) {}
};

template <typename... Args>
[[noreturn]] void raise(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
[[noreturn]] void raise_at(int line, fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...),
                line);
}

template <typename... Args>
[[noreturn]] void raise_exhausted(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(ErrorCode::kResourceExhausted, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pregate::model::jinja
