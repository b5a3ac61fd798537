// Typed access to a JSON file, with errors that name the file and the field.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "base/ids.h"
#include "base/result.h"

namespace pregate::model {

/// The object a JSON file holds. Errors name the file.
Result<boost::json::object> read_json_object(const std::filesystem::path& path);
/// The same for text that is already in memory; `where` names it in errors.
Result<boost::json::object> parse_json_object(std::string_view text, const std::string& where);

struct SizeRange {
  size_t min = 1;
  size_t max = size_t{1} << 24;  // so that a product of two never overflows, nor a float holds less
};

/// Reads fields one after the other and keeps the first error, so that a parser reads as a list of
/// fields and asks status() once. A field that is null counts as absent. After an error every read
/// returns its fallback (or a value in range).
class FieldReader {
 public:
  /// `where` names the file, and for a nested object the path to it: "config.json: rope_scaling".
  FieldReader(boost::json::object object, std::string where);

  const Status& status() const { return status_; }
  const std::string& where() const { return where_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  /// There, even if null.
  bool present(std::string_view key) const { return object_.contains({key.data(), key.size()}); }
  bool is_null(std::string_view key) const { return present(key) && !has(key); }

  size_t size(std::string_view key, std::optional<size_t> fallback, SizeRange range = {});
  /// A finite number of at least `min`.
  double number(std::string_view key, std::optional<double> fallback,
                double min = std::numeric_limits<double>::lowest());
  std::optional<double> optional_number(std::string_view key);
  bool flag(std::string_view key, bool fallback);
  std::string text(std::string_view key, std::optional<std::string> fallback);
  /// A list of non-negative integers; a single integer is a list of one. Empty if absent.
  std::vector<size_t> sizes(std::string_view key);
  std::vector<std::string> texts(std::string_view key);
  /// As sizes(), without those that are no token of any vocabulary.
  std::vector<TokenId> token_ids(std::string_view key);
  /// An empty object if absent. Take over its status() when done with it.
  FieldReader object(std::string_view key);

  /// Records "<where>: <key>: expected <expected>, found <value>" if there is no earlier error.
  void reject(std::string_view key, std::string_view expected);
  void keep_first_error(const Status& status);

 private:
  const boost::json::value* find(std::string_view key) const;
  const boost::json::value* find_required(std::string_view key, bool has_fallback);

  boost::json::object object_;
  std::string where_;
  Status status_;
};

}  // namespace pregate::model
