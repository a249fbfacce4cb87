#include "introspect/idr.h"

#include <algorithm>
#include <bit>
#include <unordered_set>

#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

constexpr std::uint64_t kInternalTag = 2;
constexpr std::uint64_t kInternalMask = 3;
constexpr std::uint64_t kLastReserved =
    4096;  // internal entries up to here are marks (zero, retry, sibling), not nodes

bool is_internal(std::uint64_t entry) { return (entry & kInternalMask) == kInternalTag; }
bool is_node(std::uint64_t entry) { return is_internal(entry) && entry > kLastReserved; }

struct NodeTask {
  GuestVirt node;
  std::uint64_t first_id = 0;
  std::optional<unsigned> shift;  // what the parent demands; unknown for the root
};

class IdrWalk {
 public:
  IdrWalk(KernelMemory& memory, const IdrModel& model, std::string_view name, Problems& problems)
      : memory_(memory), model_(model), name_(name), problems_(problems) {
    const BoundField& slots = model.node[IdrModel::kSlots];
    slot_count_ = slots.size / 8;
    chunk_shift_ =
        static_cast<unsigned>(std::countr_zero(std::bit_floor(std::max(2U, slot_count_))));
  }

  std::vector<IdrEntry> run(std::uint64_t head, std::uint64_t base) {
    take(head, 0, std::nullopt);
    while (!next_.empty()) read_level(std::exchange(next_, {}));
    for (IdrEntry& entry : entries_) entry.id += base;
    std::ranges::sort(entries_, {}, &IdrEntry::id);
    return std::move(entries_);
  }

 private:
  void take(std::uint64_t entry, std::uint64_t id, std::optional<unsigned> shift) {
    if (entry == 0) return;
    if (is_node(entry)) {
      const GuestVirt node(entry - kInternalTag);
      if (!seen_.insert(node.value()).second)
        return report(id, {.code = ErrorCode::kCorrupt,
                           .message = "its tree has a cycle",
                           .path = {},
                           .address = node.value()});
      if (seen_.size() > kMaxIdrNodes)
        return report(id, {.code = ErrorCode::kCorrupt,
                           .message = "its tree has too many nodes",
                           .path = {},
                           .address = node.value()});
      next_.push_back({.node = node, .first_id = id, .shift = shift});
    } else if (!is_internal(entry)) {
      if (entries_.size() == kMaxIdrEntries && !std::exchange(full_, true))
        report(id,
               {.code = ErrorCode::kUnsupported,
                .message = fmt::format("more than {} ids: the rest is left out", kMaxIdrEntries)});
      if (!full_) entries_.push_back({.id = id, .pointer = GuestVirt(entry)});
    }
  }

  void read_level(const std::vector<NodeTask>& tasks) {
    StructBatch nodes(model_.node);
    for (const NodeTask& task : tasks) nodes.add(task.node);
    nodes.read(memory_);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const auto view = nodes[i];
      if (!view)
        report(tasks[i].first_id, view.error());
      else
        take_slots(tasks[i], *view);
    }
  }

  void take_slots(const NodeTask& task, const StructView& node) {
    const std::uint64_t shift = node.u64(IdrModel::kShift);
    if (shift % chunk_shift_ != 0 || shift > 63 || (task.shift && shift != *task.shift))
      return report(task.first_id,
                    {.code = ErrorCode::kCorrupt,
                     .message = fmt::format("its tree has a node with shift {}", shift),
                     .path = {},
                     .address = task.node.value()});
    const ByteSpan slots = node.bytes(IdrModel::kSlots);
    for (std::uint64_t slot = 0; slot < slot_count_; ++slot) {
      const std::uint64_t entry = load_le(slots.data() + slot * 8, 8);
      const std::uint64_t id = task.first_id + (slot << shift);
      if (shift == 0 && is_node(entry))
        report(id, {.code = ErrorCode::kCorrupt,
                    .message = "its tree goes deeper than its leaves",
                    .path = {},
                    .address = task.node.value()});
      else
        take(
            entry, id,
            shift == 0 ? std::nullopt : std::optional(static_cast<unsigned>(shift) - chunk_shift_));
    }
  }

  void report(std::uint64_t id, Error error) {
    problems_.add(fmt::format("{} from id {} on", name_, id), std::move(error));
  }

  KernelMemory& memory_;
  const IdrModel& model_;
  std::string_view name_;
  Problems& problems_;
  std::uint32_t slot_count_ = 0;
  unsigned chunk_shift_ = 0;
  std::vector<NodeTask> next_;
  std::vector<IdrEntry> entries_;
  std::unordered_set<std::uint64_t> seen_;
  bool full_ = false;
};

}  // namespace

Result<std::vector<IdrEntry>> read_idr(KernelMemory& memory, const IdrModel& model, GuestVirt idr,
                                       std::string_view name, Problems& problems) {
  StructBatch batch(model.idr);
  batch.add(idr);
  batch.read(memory);
  GS_ASSIGN(const StructView view, batch[0]);
  return IdrWalk(memory, model, name, problems)
      .run(view.u64(IdrModel::kHead), view.u64(IdrModel::kBase));
}

}  // namespace guestscope
