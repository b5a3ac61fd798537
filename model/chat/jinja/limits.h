// What a template may use. Templates come with checkpoints and are not trusted: each bound here
// keeps a hostile one from taking the process with it, and is far above what real ones need.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pregate::model::jinja {

constexpr size_t kMaxSourceBytes = 4 << 20;
constexpr size_t kMaxOutputBytes = 16 << 20;
/// Of one string that an expression makes.
constexpr size_t kMaxTextBytes = kMaxOutputBytes;
/// Of a list that is made from a text.
constexpr size_t kMaxElements = 1 << 20;
/// Of everything that the expressions of one rendering make. Honest templates make more for a long
/// conversation, so it grows with that.
constexpr uint64_t kMaxMadeBytes = 256 << 20;
constexpr uint64_t kMadeBytesPerInputUnit = 16 << 10;
/// Expressions and statements evaluated, plus one per kUnitsPerStep units of the values handled, so
/// that steps bound the time. Grows with the conversation too.
constexpr uint64_t kMaxSteps = 1'000'000;
constexpr uint64_t kStepsPerInputUnit = 64;
constexpr uint64_t kUnitsPerStep = 256;
/// Size of a value with all it contains: one unit per element and one per kBytesPerUnit of text.
constexpr uint64_t kMaxUnits = 8 << 20;
constexpr uint64_t kBytesPerUnit = 16;
/// Containers within containers.
constexpr uint32_t kMaxValueDepth = 100;
/// Parentheses, blocks and operator chains within one another in the source.
constexpr int kMaxSourceDepth = 200;
/// Expressions, statements and macro calls under way at once.
constexpr int kMaxCallDepth = 600;
/// The bound of jinja2's sandbox.
constexpr int64_t kMaxRange = 100'000;

}  // namespace pregate::model::jinja
