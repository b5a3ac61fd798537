// Typed, checked access to the fields of a JSON request.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json.hpp>

#include "coordinator/api/api_error.h"

namespace pregate::coordinator {

template <typename T>
struct Range {
  T low;
  T high;
  bool low_excluded = false;
};

/// Each read leaves its target alone when the field is absent or null. The first wrong field is
/// kept as error(), naming it and what was expected; later reads then do nothing, so that a parser
/// is a straight list of reads with one check at its end.
class FieldReader {
 public:
  /// `prefix`: put before field names in errors, such as "stream_options.".
  explicit FieldReader(const boost::json::object& object, std::string prefix = "");

  const std::optional<ApiError>& error() const { return error_; }
  void fail(std::string_view name, std::string message);

  /// Null if absent, null in JSON, or after an error.
  const boost::json::value* find(std::string_view name);

  void read(std::string_view name, bool& out);
  void read(std::string_view name, std::string& out);
  void read(std::string_view name, float& out, Range<double> range);
  /// 3.0 counts as the integer 3, as it does for pydantic.
  template <std::integral T>
  void read(std::string_view name, T& out, Range<int64_t> range) {
    if (const auto value = integer(name, range)) out = static_cast<T>(*value);
  }
  template <std::integral T>
  void read(std::string_view name, std::optional<T>& out, Range<int64_t> range) {
    if (const auto value = integer(name, range)) out = static_cast<T>(*value);
  }
  const boost::json::object* object(std::string_view name);
  const boost::json::array* array(std::string_view name);

 private:
  std::optional<int64_t> integer(std::string_view name, Range<int64_t> range);

  const boost::json::object& object_;
  const std::string prefix_;
  std::optional<ApiError> error_;
};

/// Nothing if it is not a whole number that fits.
std::optional<int64_t> whole_number(const boost::json::value& value);

}  // namespace pregate::coordinator
