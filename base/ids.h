// Ids are types: a WorkerId does not convert to an ExpertId, nor to an int by accident.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

#include <fmt/format.h>

namespace pregate {

template <typename Tag, typename Rep>
struct StrongId {
  using rep = Rep;
  Rep value{};

  constexpr StrongId() = default;
  constexpr explicit StrongId(Rep v) : value(v) {}
  auto operator<=>(const StrongId&) const = default;
};

using WorkerId = StrongId<struct WorkerTag, uint32_t>;
using ExpertId = StrongId<struct ExpertTag, uint32_t>;  ///< Within one layer.
using LayerIdx = StrongId<struct LayerTag, uint32_t>;
using RequestId = StrongId<struct RequestTag, uint64_t>;

/// A vocabulary entry. Plain, because arithmetic and arrays of it are everywhere.
using TokenId = int32_t;

}  // namespace pregate

template <typename Tag, typename Rep>
struct std::hash<pregate::StrongId<Tag, Rep>> {
  size_t operator()(pregate::StrongId<Tag, Rep> id) const noexcept {
    return std::hash<Rep>{}(id.value);
  }
};

template <typename Tag, typename Rep>
struct fmt::formatter<pregate::StrongId<Tag, Rep>> : fmt::formatter<Rep> {
  template <typename Context>
  auto format(pregate::StrongId<Tag, Rep> id, Context& ctx) const {
    return fmt::formatter<Rep>::format(id.value, ctx);
  }
};
