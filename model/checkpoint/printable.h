// Names from files, made fit for a message.
#pragma once

#include <string>
#include <string_view>

namespace pregate::model {

/// `name` without control characters, and cut short if it is very long.
inline std::string printable(std::string_view name) {
  constexpr size_t kMaxShownBytes = 200;
  std::string text(name.substr(0, kMaxShownBytes));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return name.size() > kMaxShownBytes ? text + "..." : text;
}

}  // namespace pregate::model
