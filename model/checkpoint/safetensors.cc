#include "model/checkpoint/safetensors.h"

#include <algorithm>
#include <array>

#include <boost/json.hpp>

#include "model/checkpoint/field_reader.h"

namespace pregate::model {
namespace {

namespace json = boost::json;

constexpr size_t kLengthBytes = 8;

struct ElementType {
  std::string_view name;
  size_t bits;
};

// Every type of the format; a checkpoint may hold tensors that are no weights (masks, counters).
constexpr std::array kElementTypes{
    ElementType{"F32", 32},    ElementType{"BF16", 16},   ElementType{"F16", 16},
    ElementType{"F64", 64},    ElementType{"I64", 64},    ElementType{"I32", 32},
    ElementType{"I16", 16},    ElementType{"I8", 8},      ElementType{"U64", 64},
    ElementType{"U32", 32},    ElementType{"U16", 16},    ElementType{"U8", 8},
    ElementType{"BOOL", 8},    ElementType{"F8_E4M3", 8}, ElementType{"F8_E5M2", 8},
    ElementType{"F8_E8M0", 8}, ElementType{"F4", 4},      ElementType{"F6_E2M3", 6},
    ElementType{"F6_E3M2", 6}, ElementType{"C64", 64}};

std::optional<size_t> element_bits(std::string_view name) {
  const auto* found = std::find_if(kElementTypes.begin(), kElementTypes.end(),
                                   [&](const ElementType& type) { return type.name == name; });
  if (found == kElementTypes.end()) return std::nullopt;
  return found->bits;
}

/// Bytes of a tensor; nothing if that overflows or is no whole number.
std::optional<size_t> tensor_bytes(const std::vector<size_t>& shape, size_t bits) {
  size_t total = bits;
  for (const size_t extent : shape) {
    if (__builtin_mul_overflow(total, extent, &total)) return std::nullopt;
  }
  if (total % 8 != 0) return std::nullopt;
  return total / 8;
}

Result<std::string_view> header_text(std::span<const std::byte> file, const std::string& where) {
  if (file.size() < kLengthBytes) {
    return fail(ErrorCode::kDataLoss, "{}: {} bytes, too short for a safetensors file", where,
                file.size());
  }
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= uint64_t(file[i]) << (8 * i);
  if (length > kMaxSafetensorsHeaderBytes) {
    return fail(ErrorCode::kDataLoss, "{}: header of {} bytes, expected at most {}", where, length,
                kMaxSafetensorsHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    return fail(ErrorCode::kDataLoss, "{}: header of {} bytes in a file of {} bytes", where, length,
                file.size());
  }
  return std::string_view(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
}

/// How many keys the outermost object of valid JSON text has. Boost.JSON keeps the last of two
/// equal keys, so a difference to its count tells that one occurs twice.
size_t count_keys(std::string_view text) {
  size_t keys = 0, depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (c == ':' && depth == 1) {
      ++keys;
    }
  }
  return keys;
}

Status check_metadata(const json::value& metadata, const std::string& where) {
  const json::object* object = metadata.if_object();
  const bool good = object != nullptr && std::all_of(object->begin(), object->end(),
                                                     [](auto& e) { return e.value().is_string(); });
  if (good) return {};
  return fail(ErrorCode::kDataLoss, "{}: __metadata__: expected an object of strings", where);
}

Result<TensorEntry> parse_entry(const json::value& value, const std::string& where,
                                size_t data_begin, size_t file_bytes) {
  const json::object* object = value.if_object();
  if (object == nullptr) return fail(ErrorCode::kDataLoss, "{}: expected an object", where);
  FieldReader fields(*object, where);
  TensorEntry entry;
  entry.dtype = fields.text("dtype", std::nullopt);
  entry.shape = fields.sizes("shape");
  const std::vector<size_t> offsets = fields.sizes("data_offsets");
  if (!object->contains("shape") || !object->at("shape").is_array())
    fields.reject("shape", "a list");
  if (offsets.size() != 2) fields.reject("data_offsets", "[begin, end]");
  if (!fields.status()) return fail({ErrorCode::kDataLoss, fields.status().error().message});

  const auto bits = element_bits(entry.dtype);
  if (!bits) return fail(ErrorCode::kDataLoss, "{}: unknown dtype {}", where, entry.dtype);
  const size_t data_bytes = file_bytes - data_begin;
  if (offsets[0] > offsets[1] || offsets[1] > data_bytes) {
    return fail(ErrorCode::kDataLoss,
                "{}: data_offsets [{}, {}] lie outside the file's {} bytes of data (is the file "
                "truncated?)",
                where, offsets[0], offsets[1], data_bytes);
  }
  if (tensor_bytes(entry.shape, *bits) != offsets[1] - offsets[0]) {
    return fail(ErrorCode::kDataLoss, "{}: {} bytes do not fit shape [{}] of {}", where,
                offsets[1] - offsets[0], fmt::join(entry.shape, ", "), entry.dtype);
  }
  entry.begin_bytes = data_begin + offsets[0];
  entry.end_bytes = data_begin + offsets[1];
  return entry;
}

/// The format forbids holes, so that a file has one reading only.
Status check_coverage(const TensorTable& header, size_t data_begin, size_t file_bytes,
                      const std::string& where) {
  std::vector<const TensorTable::value_type*> in_order;
  for (const auto& item : header) in_order.push_back(&item);
  std::sort(in_order.begin(), in_order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin_bytes, a->second.end_bytes) <
           std::pair(b->second.begin_bytes, b->second.end_bytes);
  });
  size_t expected = data_begin;
  for (const auto* item : in_order) {
    if (item->second.begin_bytes < expected) {
      return fail(ErrorCode::kDataLoss, "{}: {}: overlaps another tensor at byte {}", where,
                  item->first, item->second.begin_bytes);
    }
    if (item->second.begin_bytes > expected) break;
    expected = item->second.end_bytes;
  }
  if (expected == file_bytes) return {};
  return fail(ErrorCode::kDataLoss, "{}: the bytes from {} on belong to no tensor", where,
              expected);
}

}  // namespace

std::string_view safetensors_name(compute::DType dtype) {
  switch (dtype) {
    case compute::DType::kF32:
      return "F32";
    case compute::DType::kBf16:
      return "BF16";
    case compute::DType::kF16:
      return "F16";
    case compute::DType::kF8:
      return "F8_E4M3";
  }
  return "?";
}

Result<TensorTable> parse_safetensors(std::span<const std::byte> file, const std::string& where) {
  PREGATE_ASSIGN(const std::string_view text, header_text(file, where));
  PREGATE_ASSIGN(const json::object object, parse_json_object(text, where + ": header"));
  if (count_keys(text) != object.size()) {
    return fail(ErrorCode::kDataLoss, "{}: header: a tensor name occurs twice", where);
  }
  const size_t data_begin = kLengthBytes + text.size();
  TensorTable header;
  for (const auto& [key, value] : object) {
    if (key == "__metadata__") {
      PREGATE_TRY(check_metadata(value, where));
      continue;
    }
    const std::string name(key);
    PREGATE_ASSIGN(header[name], parse_entry(value, where + ": " + name, data_begin, file.size()));
  }
  PREGATE_TRY(check_coverage(header, data_begin, file.size(), where));
  return header;
}

Result<TensorFile> open_safetensors(const std::filesystem::path& path) {
  PREGATE_ASSIGN(MappedFile file, MappedFile::open(path));
  PREGATE_ASSIGN(TensorTable header, parse_safetensors(file.bytes(), path.string()));
  return TensorFile(path, std::move(file), std::move(header));
}

}  // namespace pregate::model
