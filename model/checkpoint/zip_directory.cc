#include "model/checkpoint/zip_directory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "model/checkpoint/printable.h"

namespace pregate::model {
namespace {

constexpr size_t kEndBytes = 22, kZip64LocatorBytes = 20, kZip64EndBytes = 56;
constexpr size_t kCentralBytes = 46, kLocalBytes = 30;
constexpr uint32_t kEndSignature = 0x06054b50, kZip64LocatorSignature = 0x07064b50,
                   kZip64EndSignature = 0x06064b50, kCentralSignature = 0x02014b50,
                   kLocalSignature = 0x04034b50;
constexpr size_t kMaxCommentBytes = 0xffff;
constexpr uint32_t kInZip64 = 0xffffffff;  ///< The number is in the zip64 extra field instead.
constexpr uint16_t kZip64ExtraId = 1;
constexpr uint16_t kEncryptedFlags = 1 << 0 | 1 << 6 | 1 << 13;

/// A little-endian number at `offset`, which is in `bytes`.
template <typename T>
T number(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

struct DirectoryPlace {
  size_t begin, bytes, num_entries;
};

struct Entry {
  std::string_view name;
  uint64_t header_begin = 0, bytes = 0;
  size_t data_begin = 0;
};

class ZipReader {
 public:
  ZipReader(std::span<const std::byte> file, const std::string& where)
      : file_(file), where_(where) {}

  Result<ZipDirectory> read() {
    PREGATE_ASSIGN(place_, find_directory());
    PREGATE_TRY(read_entries());
    PREGATE_TRY(check_overlaps());
    ZipDirectory directory;
    for (const Entry& entry : entries_) {
      const auto data = file_.subspan(entry.data_begin, entry.bytes);
      if (!directory.emplace(entry.name, data).second) {
        return damaged(fmt::format("{}: occurs twice", printable(entry.name)));
      }
    }
    return directory;
  }

 private:
  tl::unexpected<Error> damaged(std::string_view what) const {
    return fail(ErrorCode::kDataLoss, "{}: {}", where_, what);
  }
  tl::unexpected<Error> unsupported(std::string_view what) const {
    return fail(ErrorCode::kUnimplemented, "{}: {}", where_, what);
  }
  bool has_signature(uint64_t offset, size_t record_bytes, uint32_t signature) const {
    return file_.size() >= record_bytes && offset <= file_.size() - record_bytes &&
           number<uint32_t>(file_, offset) == signature;
  }

  /// It is the last thing in the file but for a comment, whose length it says.
  std::optional<size_t> find_end_record() const {
    for (size_t comment = 0; comment <= kMaxCommentBytes; ++comment) {
      if (file_.size() < kEndBytes + comment) return std::nullopt;
      const size_t offset = file_.size() - kEndBytes - comment;
      if (has_signature(offset, kEndBytes, kEndSignature) &&
          number<uint16_t>(file_, offset + 20) == comment) {
        return offset;
      }
    }
    return std::nullopt;
  }

  Result<DirectoryPlace> find_directory() const {
    const auto end = find_end_record();
    if (!end) return damaged("no zip file, or a truncated one: it has no end record");
    const bool is_zip64 =
        *end >= kZip64LocatorBytes &&
        has_signature(*end - kZip64LocatorBytes, kZip64LocatorBytes, kZip64LocatorSignature);
    return is_zip64 ? from_zip64_end(*end - kZip64LocatorBytes) : from_end(*end);
  }

  Result<DirectoryPlace> from_end(size_t end) const {
    const auto record = file_.subspan(end, kEndBytes);
    const auto num_entries = number<uint16_t>(record, 10);
    if (number<uint32_t>(record, 4) != 0 || number<uint16_t>(record, 8) != num_entries) {
      return unsupported("a zip file of several disks, which is not read");
    }
    return checked_place(number<uint32_t>(record, 16), number<uint32_t>(record, 12), num_entries,
                         end);
  }

  Result<DirectoryPlace> from_zip64_end(size_t locator) const {
    const auto end = number<uint64_t>(file_, locator + 8);
    if (locator < kZip64EndBytes || end > locator - kZip64EndBytes ||
        !has_signature(end, kZip64EndBytes, kZip64EndSignature)) {
      return damaged("its zip64 end record is not where it should be");
    }
    const auto record = file_.subspan(end, kZip64EndBytes);
    const auto num_entries = number<uint64_t>(record, 32);
    if (number<uint64_t>(record, 16) != 0 || number<uint64_t>(record, 24) != num_entries ||
        number<uint32_t>(file_, locator + 16) > 1) {
      return unsupported("a zip file of several disks, which is not read");
    }
    return checked_place(number<uint64_t>(record, 48), number<uint64_t>(record, 40), num_entries,
                         end);
  }

  Result<DirectoryPlace> checked_place(uint64_t begin, uint64_t bytes, uint64_t num_entries,
                                       size_t end) const {
    if (begin > end || bytes != end - begin) {
      return damaged(
          fmt::format("a central directory of {} bytes at byte {} does not end where "
                      "the end record begins, at byte {}",
                      bytes, begin, end));
    }
    return DirectoryPlace{size_t(begin), size_t(bytes), size_t(num_entries)};
  }

  Status read_entries() {
    size_t offset = place_.begin;
    const size_t end = place_.begin + place_.bytes;
    while (offset < end) {
      PREGATE_ASSIGN(const size_t bytes, read_entry(file_.subspan(offset, end - offset)));
      offset += bytes;
    }
    if (entries_.size() == place_.num_entries) return {};
    return damaged(
        fmt::format("the central directory has {} entries, though the end record says "
                    "{}",
                    entries_.size(), place_.num_entries));
  }

  /// Reads the entry at the front of `rest` and returns how long it is.
  Result<size_t> read_entry(std::span<const std::byte> rest) {
    if (rest.size() < kCentralBytes || number<uint32_t>(rest, 0) != kCentralSignature) {
      return damaged("the central directory is damaged");
    }
    const size_t name_bytes = number<uint16_t>(rest, 28);
    const size_t extra_bytes = number<uint16_t>(rest, 30);
    const size_t total = kCentralBytes + name_bytes + extra_bytes + number<uint16_t>(rest, 32);
    if (total > rest.size()) return damaged("the central directory is damaged");
    Entry entry;
    entry.name = {reinterpret_cast<const char*>(rest.data()) + kCentralBytes, name_bytes};
    PREGATE_TRY(check_storing(rest, entry.name));
    PREGATE_TRY(read_place(rest, rest.subspan(kCentralBytes + name_bytes, extra_bytes), entry));
    PREGATE_TRY(find_data(entry));
    entries_.push_back(entry);
    return total;
  }

  Status check_storing(std::span<const std::byte> record, std::string_view name) const {
    if ((number<uint16_t>(record, 8) & kEncryptedFlags) != 0) {
      return unsupported(fmt::format("{}: encrypted, which is not read", printable(name)));
    }
    if (number<uint16_t>(record, 10) != 0) {
      return unsupported(
          fmt::format("{}: compressed, which is not read; torch.save stores as is (was the file "
                      "packed again?)",
                      printable(name)));
    }
    return {};
  }

  /// Sizes and offset are 32 bits wide; those that do not fit are in an extra field, in this order.
  Status read_place(std::span<const std::byte> record, std::span<const std::byte> extras,
                    Entry& entry) const {
    auto wide = zip64_extra(extras);
    const auto read = [&](size_t offset) -> std::optional<uint64_t> {
      const auto narrow = number<uint32_t>(record, offset);
      if (narrow != kInZip64) return narrow;
      if (wide.size() < sizeof(uint64_t)) return std::nullopt;
      const auto value = number<uint64_t>(wide, 0);
      wide = wide.subspan(sizeof(uint64_t));
      return value;
    };
    const auto bytes = read(24), stored_bytes = read(20), header_begin = read(42);
    const auto disk = number<uint16_t>(record, 34);
    if (!bytes || !stored_bytes || !header_begin || *bytes != *stored_bytes) {
      return damaged(fmt::format("{}: its sizes are damaged", printable(entry.name)));
    }
    if (disk != 0 && disk != 0xffff) {
      return unsupported("a zip file of several disks, which is not read");
    }
    entry.bytes = *bytes;
    entry.header_begin = *header_begin;
    return {};
  }

  static std::span<const std::byte> zip64_extra(std::span<const std::byte> extras) {
    while (extras.size() >= 4) {
      const size_t bytes = number<uint16_t>(extras, 2);
      if (bytes > extras.size() - 4) break;
      if (number<uint16_t>(extras, 0) == kZip64ExtraId) return extras.subspan(4, bytes);
      extras = extras.subspan(4 + bytes);
    }
    return {};
  }

  /// The data lies behind a header of its own, which repeats the name.
  Status find_data(Entry& entry) const {
    const auto misplaced = [&] {
      return damaged(fmt::format("{}: its data is not where the central directory says",
                                 printable(entry.name)));
    };
    if (entry.header_begin > place_.begin ||
        !has_signature(entry.header_begin, kLocalBytes, kLocalSignature)) {
      return misplaced();
    }
    const auto header = file_.subspan(entry.header_begin, kLocalBytes);
    const size_t name_bytes = number<uint16_t>(header, 26);
    const size_t name_begin = entry.header_begin + kLocalBytes;
    entry.data_begin = name_begin + name_bytes + number<uint16_t>(header, 28);
    if (entry.data_begin > place_.begin || entry.bytes > place_.begin - entry.data_begin) {
      return misplaced();
    }
    const std::string_view name(reinterpret_cast<const char*>(file_.data()) + name_begin,
                                name_bytes);
    if (name != entry.name) return misplaced();
    return {};
  }

  Status check_overlaps() {
    std::sort(entries_.begin(), entries_.end(),
              [](const Entry& a, const Entry& b) { return a.header_begin < b.header_begin; });
    for (size_t i = 1; i < entries_.size(); ++i) {
      if (entries_[i].header_begin < entries_[i - 1].data_begin + entries_[i - 1].bytes) {
        return damaged(fmt::format("{}: overlaps another entry", printable(entries_[i].name)));
      }
    }
    return {};
  }

  const std::span<const std::byte> file_;
  const std::string& where_;
  DirectoryPlace place_{};
  std::vector<Entry> entries_;
};

}  // namespace

Result<ZipDirectory> read_zip_directory(std::span<const std::byte> file, const std::string& where) {
  return ZipReader(file, where).read();
}

}  // namespace pregate::model
