// Writes pickles opcode by opcode, also such as no pickler would, for the tests of this folder.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>

namespace pregate::model::pickles {

/// A whole pickle that leaves `value`.
inline std::string whole(const std::string& value) { return "\x80\x02" + value + "."; }

inline std::string text(const std::string& value) {
  std::string length(4, '\0');
  const auto bytes = uint32_t(value.size());
  std::memcpy(length.data(), &bytes, sizeof(bytes));
  return "X" + length + value;
}

inline std::string integer(int64_t value) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return "\x8a\x08" + bytes;
}

inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

inline std::string stack_global(const std::string& module, const std::string& name) {
  return text(module) + text(name) + "\x93";
}

inline std::string tuple(std::initializer_list<std::string> items) {
  std::string bytes = "(";
  for (const std::string& item : items) bytes += item;
  return bytes + "t";
}

inline std::string sizes(std::initializer_list<int64_t> values) {
  std::string bytes = "(";
  for (const int64_t value : values) bytes += integer(value);
  return bytes + "t";
}

/// A dict with one item.
inline std::string dict(const std::string& key, const std::string& value) {
  return "}" + key + value + "s";
}

inline std::string call(const std::string& callable, const std::string& arguments) {
  return callable + arguments + "R";
}

inline const std::string kOrderedDict = call(global("collections", "OrderedDict"), ")");

inline std::string storage(const std::string& type, const std::string& key, int64_t count) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(count)}) +
         "Q";
}

inline std::string tensor(const std::string& storage, int64_t offset, const std::string& shape,
                          const std::string& strides) {
  return call(global("torch._utils", "_rebuild_tensor_v2"),
              tuple({storage, integer(offset), shape, strides, "\x89", kOrderedDict}));
}

}  // namespace pregate::model::pickles
