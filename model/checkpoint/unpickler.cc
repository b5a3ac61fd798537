#include "model/checkpoint/unpickler.h"

#include <bit>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <utility>
#include <vector>

#include "model/checkpoint/pickle_values.h"
#include "model/checkpoint/printable.h"

namespace pregate::model {
namespace {

using Kind = PickleNode::Kind;

/// Names as in Python's pickletools.
enum class Op : uint8_t {
  kMark = '(',
  kStop = '.',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kInst = 'i',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kEmptyDict = '}',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kBinFloat = 'G',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

constexpr const char* kWhatIsRead = "which is not read: only tensors and plain containers are";

/// Keeps the first error, after which reading gives zeros and nothing is pushed, so that an opcode
/// reads as what it does.
class Unpickler {
 public:
  Unpickler(std::span<const std::byte> pickle, const StorageFinder& storages)
      : pickle_(pickle), storages_(storages) {}

  Result<TorchValue> run() {
    if (pickle_.size() > kMaxPickleBytes) {
      return fail(ErrorCode::kDataLoss, "pickle of {} bytes, expected at most {}", pickle_.size(),
                  kMaxPickleBytes);
    }
    read_protocol();
    while (status_ && !is_done_) step(Op{take<uint8_t>()});
    PREGATE_TRY(status_);
    if (stack_.size() != 1 || !marks_.empty() || at_ != pickle_.size()) {
      return fail(ErrorCode::kDataLoss, "pickle ends with {} values, {} marks and {} bytes left",
                  stack_.size(), marks_.size(), pickle_.size() - at_);
    }
    return to_value(stack_.front());
  }

 private:
  void read_protocol() {
    const bool has_protocol = Op{take<uint8_t>()} == Op::kProto;
    const auto protocol = take<uint8_t>();
    if (!has_protocol) return damage("has no protocol number, so it is no pickle that is read");
    if (protocol < 2 || protocol > 5) {
      refuse(fmt::format("pickle has protocol {}, which is not read: 2 to 5 are", protocol));
    }
  }

  void step(Op op) {
    switch (op) {
      case Op::kNone:
        return push({});
      case Op::kNewTrue:
        return push(true);
      case Op::kNewFalse:
        return push(false);
      case Op::kBinInt1:
        return push(int64_t{take<uint8_t>()});
      case Op::kBinInt2:
        return push(int64_t{take<uint16_t>()});
      case Op::kBinInt:
        return push(int64_t{take<int32_t>()});
      case Op::kLong1:
        return push_long(take_text(take<uint8_t>()));
      case Op::kBinFloat:
        return push(std::bit_cast<double>(__builtin_bswap64(take<uint64_t>())));
      case Op::kShortBinUnicode:
        return push(take_text(take<uint8_t>()));
      case Op::kBinUnicode:
        return push(take_text(take<uint32_t>()));
      case Op::kBinUnicode8:
        return push(take_text(take<uint64_t>()));
      case Op::kStop:
        is_done_ = true;
        return;
      case Op::kFrame:  // Where a reader may cut its input; the opcodes inside are the same.
        take<uint64_t>();
        return;
      default:
        return step_containers(op);
    }
  }

  void step_containers(Op op) {
    switch (op) {
      case Op::kEmptyList:
        return push_node(Kind::kList, {});
      case Op::kEmptyDict:
        return push_node(Kind::kDict, {});
      case Op::kEmptyTuple:
        return push_node(Kind::kTuple, {});
      case Op::kTuple1:
        return push_node(Kind::kTuple, pop(1));
      case Op::kTuple2:
        return push_node(Kind::kTuple, pop(2));
      case Op::kTuple3:
        return push_node(Kind::kTuple, pop(3));
      case Op::kTuple:
        return push_node(Kind::kTuple, pop_to_mark());
      case Op::kMark:
        return push_mark();
      case Op::kAppend:
        return append(pop(1));
      case Op::kAppends:
        return append(pop_to_mark());
      case Op::kSetItem:
        return set_items(pop(2));
      case Op::kSetItems:
        return set_items(pop_to_mark());
      default:
        return step_objects(op);
    }
  }

  void step_objects(Op op) {
    switch (op) {
      case Op::kMemoize:
        return memoize(memo_.size());
      case Op::kBinPut:
        return memoize(take<uint8_t>());
      case Op::kLongBinPut:
        return memoize(take<uint32_t>());
      case Op::kBinGet:
        return recall(take<uint8_t>());
      case Op::kLongBinGet:
        return recall(take<uint32_t>());
      case Op::kGlobal:
        return push_global();
      case Op::kStackGlobal:
        return push_stack_global();
      case Op::kInst:
        return refuse_instance();
      case Op::kBinPersId:
        return push_storage();
      case Op::kReduce:
        return call();
      case Op::kBuild:
        return leave_out_attributes();
      default:
        return refuse(fmt::format("pickle has opcode {:#04x} at byte {}, {}", uint8_t(op), at_ - 1,
                                  kWhatIsRead));
    }
  }

  // Errors.

  void keep_first_error(Error error) {
    if (status_) status_ = fail(std::move(error));
  }
  void damage(std::string_view what) {
    keep_first_error({ErrorCode::kDataLoss, fmt::format("pickle {} (at byte {})", what, at_)});
  }
  void refuse(std::string message) {
    keep_first_error({ErrorCode::kUnimplemented, std::move(message)});
  }
  void refuse_global(std::string_view module, std::string_view name) {
    refuse(
        fmt::format("pickle refers to {}.{}, {}", printable(module), printable(name), kWhatIsRead));
  }

  // Arguments of opcodes.

  template <typename T>
  T take() {
    T value{};
    const std::string_view bytes = take_text(sizeof(value));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }

  std::string_view rest() const {
    return {reinterpret_cast<const char*>(pickle_.data()) + at_, pickle_.size() - at_};
  }

  std::string_view take_text(uint64_t bytes) {
    if (bytes > rest().size()) damage("ends in the middle");
    if (!status_) return {};
    const std::string_view text = rest().substr(0, bytes);
    at_ += bytes;
    return text;
  }

  std::string_view take_line() {
    const size_t end = rest().find('\n');
    if (end == std::string_view::npos) damage("ends in the middle");
    const std::string_view line = take_text(status_ ? end : 0);
    take<uint8_t>();  // the line's end
    return line;
  }

  // The stack. What lies below the last mark is out of reach.

  void push(PickleItem item) {
    if (stack_.size() >= kMaxPickleStack) damage("has too much on its stack");
    if (status_) stack_.push_back(std::move(item));
  }

  void push_mark() {
    if (marks_.size() >= kMaxPickleStack) damage("has too many marks");
    marks_.push_back(stack_.size());
  }

  size_t num_reachable() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  /// Exactly `count` items, or none after an error.
  std::vector<PickleItem> pop(size_t count) {
    if (count > num_reachable()) damage("takes more from its stack than there is");
    if (!status_) return {};
    const auto first = stack_.end() - std::ptrdiff_t(count);
    std::vector<PickleItem> items(std::make_move_iterator(first),
                                  std::make_move_iterator(stack_.end()));
    stack_.erase(first, stack_.end());
    return items;
  }

  std::vector<PickleItem> pop_to_mark() {
    if (marks_.empty()) damage("has no mark");
    if (!status_) return {};
    std::vector<PickleItem> items = pop(num_reachable());
    marks_.pop_back();
    return items;
  }

  const PickleItem& top() {
    static const PickleItem kNothing;
    if (num_reachable() == 0) damage("takes more from its stack than there is");
    return status_ ? stack_.back() : kNothing;
  }

  // Values.

  /// Two's complement in as few bytes as it takes.
  void push_long(std::string_view bytes) {
    if (bytes.size() > sizeof(int64_t)) {
      return refuse(
          fmt::format("pickle has an integer of {} bytes, {}", bytes.size(), kWhatIsRead));
    }
    const bool is_negative = !bytes.empty() && (uint8_t(bytes.back()) & 0x80) != 0;
    int64_t value = is_negative ? -1 : 0;
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    push(value);
  }

  void push_node(Kind kind, std::vector<PickleItem> items) {
    if (nodes_.size() >= kMaxPickleObjects) damage("has too many containers");
    if (status_) push(&nodes_.emplace_back(PickleNode{kind, std::move(items)}));
  }

  /// The container on top of the stack, or null after an error.
  PickleNode* top_node(bool (*is_wanted)(Kind), std::string_view otherwise) {
    const auto* node = std::get_if<PickleNode*>(&top());
    if (node != nullptr && is_wanted((*node)->kind)) return *node;
    damage(otherwise);
    return nullptr;
  }

  static bool is_list(Kind kind) { return kind == Kind::kList; }
  static bool is_dict(Kind kind) { return kind == Kind::kDict || kind == Kind::kOrderedDict; }
  static bool is_ordered_dict(Kind kind) { return kind == Kind::kOrderedDict; }

  static void move_into(PickleNode& node, std::vector<PickleItem> items) {
    node.items.insert(node.items.end(), std::make_move_iterator(items.begin()),
                      std::make_move_iterator(items.end()));
  }

  void append(std::vector<PickleItem> items) {
    PickleNode* list = top_node(is_list, "appends to what is no list");
    if (list != nullptr) move_into(*list, std::move(items));
  }

  void set_items(std::vector<PickleItem> items) {
    if (items.size() % 2 != 0) damage("has a key without a value");
    PickleNode* dict = top_node(is_dict, "sets items of what is no dict");
    if (dict != nullptr) move_into(*dict, std::move(items));
  }

  // The memo. Picklers number what they remember one by one.

  void memoize(size_t index) {
    if (index > memo_.size() || index >= kMaxPickleObjects) damage("leaves out a memo number");
    const PickleItem item = top();
    if (!status_) return;
    if (index == memo_.size()) memo_.emplace_back();
    memo_[index] = item;
  }

  void recall(size_t index) {
    if (index >= memo_.size()) return damage("refers to a memo number that is not there");
    push(memo_[index]);
  }

  // Globals and what they are good for.

  void push_global() {
    const std::string_view module = take_line(), name = take_line();
    push_known(module, name);
  }

  void push_stack_global() {
    const auto names = pop(2);
    if (!status_) return;
    const auto* module = std::get_if<std::string_view>(&names[0]);
    const auto* name = std::get_if<std::string_view>(&names[1]);
    if (module == nullptr || name == nullptr) return damage("names a global by no string");
    push_known(*module, *name);
  }

  void push_known(std::string_view module, std::string_view name) {
    if (!status_) return;
    const auto known = find_global(module, name);
    known ? push(*known) : refuse_global(module, name);
  }

  void refuse_instance() {
    const std::string_view module = take_line(), name = take_line();
    refuse_global(module, name);
  }

  void push_storage() {
    const auto id = pop(1);
    if (status_) push_result(find_storage(id[0], storages_));
  }

  template <typename T>
  void push_result(Result<T> result) {
    result ? push(std::move(*result))
           : keep_first_error(in_context(std::move(result.error()), "pickle"));
  }

  void call() {
    const auto items = pop(2);
    if (!status_) return;
    if (const auto* type = std::get_if<const StorageType*>(&items[0])) {
      return refuse(fmt::format("pickle calls torch.{}, {}", (*type)->name, kWhatIsRead));
    }
    const auto* callable = std::get_if<Callable>(&items[0]);
    const PickleNode* arguments = node_of(items[1], Kind::kTuple);
    if (callable == nullptr) return damage("calls what is no function");
    if (arguments == nullptr) return damage("calls a function without a tuple of arguments");
    call(*callable, arguments->items);
  }

  void call(Callable callable, std::span<const PickleItem> arguments) {
    switch (callable) {
      case Callable::kOrderedDict:
        if (!arguments.empty()) return damage("makes an OrderedDict of something");
        return push_node(Kind::kOrderedDict, {});
      case Callable::kRebuildTensor:
        return push_result(rebuild_tensor(arguments));
      case Callable::kRebuildParameter:
        return push_result(rebuild_parameter(arguments));
    }
  }

  /// A state dict has an attribute _metadata, with versions of torch's modules.
  void leave_out_attributes() {
    const auto state = pop(1);
    if (!status_) return;
    if (node_of(state[0], Kind::kDict) == nullptr) damage("sets attributes that are no dict");
    top_node(is_ordered_dict, "sets attributes of what is no OrderedDict");
  }

  const std::span<const std::byte> pickle_;
  const StorageFinder& storages_;
  size_t at_ = 0;
  bool is_done_ = false;
  Status status_;
  std::vector<PickleItem> stack_;
  std::vector<size_t> marks_;  ///< How high the stack was at each.
  std::vector<PickleItem> memo_;
  std::deque<PickleNode> nodes_;  // a deque: items point into it
};

}  // namespace

Result<TorchValue> unpickle(std::span<const std::byte> pickle, const StorageFinder& storages,
                            const std::string& where) {
  auto value = Unpickler(pickle, storages).run();
  if (!value) return fail(in_context(std::move(value.error()), where));
  return value;
}

}  // namespace pregate::model
