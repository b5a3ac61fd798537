// Writes zip files byte by byte, whole or with one thing wrong, for the tests of this folder.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace pregate::model {

struct ZipEntryBytes {
  std::string name;
  std::string data;
  uint16_t flags = 0;
  uint16_t method = 0;
};

struct ZipShape {
  bool zip64 = false;  ///< Sizes and offsets in zip64 records, although they are small.
  std::string comment;
  uint64_t offset_shift = 0;  ///< The central directory says that everything lies so much later.
  uint16_t disk = 0;
};

class ZipWriter {
 public:
  explicit ZipWriter(ZipShape shape) : shape_(std::move(shape)) {}

  std::string write(const std::vector<ZipEntryBytes>& entries) {
    for (const ZipEntryBytes& entry : entries) add_local(entry);
    const uint64_t begin = file_.size();
    file_ += central_;
    add_end(begin, entries.size());
    return file_;
  }

 private:
  template <typename T>
  static std::string number(T value) {
    std::string bytes(sizeof(value), '\0');
    std::memcpy(bytes.data(), &value, sizeof(value));
    return bytes;
  }
  static std::string u16(uint64_t value) { return number(uint16_t(value)); }
  static std::string u32(uint64_t value) { return number(uint32_t(value)); }
  static std::string u64(uint64_t value) { return number(value); }
  /// As a record of 32 bits holds it.
  std::string narrow(uint64_t value) const { return u32(shape_.zip64 ? 0xffffffff : value); }

  void add_local(const ZipEntryBytes& entry) {
    const uint64_t offset = file_.size() + shape_.offset_shift, bytes = entry.data.size();
    const std::string common = u16(45) + u16(entry.flags) + u16(entry.method) + u32(0) + u32(0);
    file_ += "PK\3\4" + common + u32(bytes) + u32(bytes) + u16(entry.name.size()) + u16(4) +
             entry.name + "FB" + u16(0) + entry.data;  // an empty extra field, as torch pads
    std::string extra = "FB" + u16(0);
    if (shape_.zip64) extra += u16(1) + u16(24) + u64(bytes) + u64(bytes) + u64(offset);
    central_ += "PK\1\2" + u16(45) + common + narrow(bytes) + narrow(bytes) +
                u16(entry.name.size()) + u16(extra.size()) + u16(0) + u16(0) + u16(0) + u32(0) +
                narrow(offset) + entry.name + extra;
  }

  void add_end(uint64_t begin, uint64_t num_entries) {
    const uint64_t zip64_end = file_.size();
    begin += shape_.offset_shift;
    if (shape_.zip64) {
      file_ += "PK\6\6" + u64(44) + u16(45) + u16(45) + u32(shape_.disk) + u32(0) +
               u64(num_entries) + u64(num_entries) + u64(central_.size()) + u64(begin);
      file_ += "PK\6\7" + u32(0) + u64(zip64_end + shape_.offset_shift) + u32(1);
    }
    const std::string count = u16(shape_.zip64 ? 0xffff : num_entries);
    file_ += "PK\5\6" + u16(shape_.disk) + u16(0) + count + count + narrow(central_.size()) +
             narrow(begin) + u16(shape_.comment.size()) + shape_.comment;
  }

  const ZipShape shape_;
  std::string file_, central_;
};

inline std::string zip_bytes(const std::vector<ZipEntryBytes>& entries, ZipShape shape = {}) {
  return ZipWriter(std::move(shape)).write(entries);
}

}  // namespace pregate::model
