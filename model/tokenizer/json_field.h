// A value of tokenizer.json together with its path, so that every error names the field.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/result.h"

namespace pregate::model {

/// Refers to a parsed document, which must outlive it.
class JsonField {
 public:
  JsonField(const boost::json::value& value, std::string path)
      : value_(&value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  const boost::json::value& value() const { return *value_; }

  /// The member `key`; a missing member or a null is an error.
  Result<JsonField> at(std::string_view key) const;
  /// The member `key`, or nothing if it is missing or null.
  Result<std::optional<JsonField>> find(std::string_view key) const;
  Result<std::vector<JsonField>> elements() const;

  /// Valid UTF-8, as the parser has checked.
  Result<std::string_view> as_string() const;
  Result<bool> as_bool() const;
  /// A whole number in [0, limit).
  Result<uint32_t> as_number_below(uint32_t limit) const;

  Result<std::string_view> string_at(std::string_view key) const;
  Result<bool> bool_or(std::string_view key, bool default_value) const;

  template <typename... Args>
  tl::unexpected<Error> fail_here(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kInvalidArgument, "{}: {}", path_,
                fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  tl::unexpected<Error> fail_type(std::string_view expected) const;

  const boost::json::value* value_;
  std::string path_;
};

}  // namespace pregate::model
