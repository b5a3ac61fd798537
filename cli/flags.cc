#include "cli/flags.h"

#include <algorithm>
#include <charconv>

#include <CLI/CLI.hpp>

#include "cli/quantity.h"

namespace pregate::cli {
namespace {

std::string describe(Range range) {
  if (range.max == UINT64_MAX) return fmt::format("a whole number of at least {}", range.min);
  return fmt::format("a whole number from {} to {}", range.min, range.max);
}

Result<uint64_t> parse_count(const std::string& text, Range range) {
  uint64_t number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  if (error != std::errc() || end != last || number < range.min || number > range.max) {
    return fail(ErrorCode::kInvalidArgument, "expected {}, got \"{}\"", describe(range), text);
  }
  return number;
}

Result<double> parse_share(const std::string& text) {
  double number = 0;
  const char* const last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  if (error != std::errc() || end != last || !(number >= 0 && number <= 1)) {
    return fail(ErrorCode::kInvalidArgument, "expected a number from 0 to 1, got \"{}\"", text);
  }
  return number;
}

}  // namespace

CLI::Option* Flags::add(const std::string& flag, std::function<Status(const std::string&)> parse,
                        const std::string& help) {
  const std::string name = flag.substr(flag.rfind(',') + 1);  // The long one of "-n,--workers".
  const auto checked = [name, parse = std::move(parse)](const std::string& text) {
    const Status parsed = parse(text);
    if (!parsed) throw CLI::ValidationError(name, parsed.error().message);
  };
  return command_.add_option_function<std::string>(flag, checked, help)->group(group_);
}

void Flags::positional(const std::string& name, std::string& value, const std::string& help) {
  command_.add_option(name, value, help)->type_name("")->required();
}

void Flags::positionals(const std::string& name, std::vector<std::filesystem::path>& values,
                        const std::string& help) {
  command_.add_option(name, values, help)->type_name("")->required();
}

void Flags::positionals(const std::string& name, std::vector<std::string>& values,
                        const std::string& help) {
  command_.add_option(name, values, help)->type_name("")->required();
}

CLI::Option* Flags::count(const std::string& flag, size_t& value, Range range,
                          const std::string& help) {
  const auto parse = [&value, range](const std::string& text) -> Status {
    PREGATE_ASSIGN(value, parse_count(text, range));
    return {};
  };
  return add(flag, parse, help)->type_name(kCountType)->default_str(std::to_string(value));
}

CLI::Option* Flags::count(const std::string& flag, std::optional<size_t>& value, Range range,
                          const std::string& help) {
  const auto parse = [&value, range](const std::string& text) -> Status {
    PREGATE_ASSIGN(value, parse_count(text, range));
    return {};
  };
  return add(flag, parse, help)->type_name(kCountType);
}

CLI::Option* Flags::bytes(const std::string& flag, uint64_t& value, const std::string& help) {
  const auto parse = [&value](const std::string& text) -> Status {
    PREGATE_ASSIGN(value, parse_bytes(text));
    return {};
  };
  return add(flag, parse, help)->type_name(kBytesType)->default_str(format_bytes(value));
}

CLI::Option* Flags::duration(const std::string& flag, std::chrono::milliseconds& value,
                             const std::string& help) {
  const auto parse = [&value](const std::string& text) -> Status {
    PREGATE_ASSIGN(value, parse_duration(text));
    return {};
  };
  return add(flag, parse, help)->type_name(kDurationType)->default_str(format_duration(value));
}

CLI::Option* Flags::share(const std::string& flag, double& value, const std::string& help) {
  const auto parse = [&value](const std::string& text) -> Status {
    PREGATE_ASSIGN(value, parse_share(text));
    return {};
  };
  return add(flag, parse, help)->type_name(kShareType)->default_str(fmt::format("{}", value));
}

CLI::Option* Flags::text(const std::string& flag, std::string& value, const std::string& help) {
  const auto parse = [&value](const std::string& text) -> Status {
    value = text;
    return {};
  };
  return add(flag, parse, help)->type_name(kTextType)->default_str(value);
}

CLI::Option* Flags::path(const std::string& flag, std::filesystem::path& value,
                         const std::string& help) {
  const auto parse = [&value](const std::string& text) -> Status {
    if (text.empty()) return fail(ErrorCode::kInvalidArgument, "expected a path, got nothing");
    value = text;
    return {};
  };
  return add(flag, parse, help)->type_name(kPathType)->default_str(value.string());
}

CLI::Option* Flags::toggle(const std::string& flag, bool& value, const std::string& help) {
  return command_.add_flag(flag, value, help)->group(group_);
}

CLI::Option* Flags::add_choice(const std::string& flag, const std::vector<std::string>& names,
                               const std::string& current, std::function<void(size_t)> choose,
                               const std::string& help) {
  const auto parse = [names, choose = std::move(choose)](const std::string& text) -> Status {
    const auto found = std::find(names.begin(), names.end(), text);
    if (found == names.end()) {
      return fail(ErrorCode::kInvalidArgument, "expected one of {}, got \"{}\"",
                  fmt::join(names, ", "), text);
    }
    choose(static_cast<size_t>(found - names.begin()));
    return {};
  };
  const std::string type = fmt::format("{}", fmt::join(names, "|"));
  return add(flag, parse, help)->type_name(type)->default_str(current);
}

}  // namespace pregate::cli
