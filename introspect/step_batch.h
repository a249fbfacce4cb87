// StepBatch: structures of one layout of which each exchange may show further ones to read (a tree
// by levels, lists by steps).
//
//   StepBatch<std::size_t> nodes(*layout);
//   nodes.add(first, 0);
//   while (nodes.busy()) {
//     read_together(memory, nodes, …);
//     nodes.each([&](GuestVirt address, std::size_t tag, const Result<StructView>& view) {
//       … nodes.add(view->pointer(kNext), tag) …
//     });
//   }
//
// Does not notice cycles: that is for whoever adds. The layout must outlive it. Threads: one.
#pragma once

#include <algorithm>
#include <vector>

#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

template <typename Tag>
class StepBatch {
 public:
  explicit StepBatch(const StructLayout& layout) : layout_(&layout), batch_(layout) {}

  const StructLayout& layout() const { return *layout_; }
  /// For the next exchange, or a later one when so many are waiting that memory would be wasted.
  void add(GuestVirt address, Tag tag) { waiting_.push_back({address, std::move(tag)}); }
  bool busy() const { return !waiting_.empty(); }

  // See read_together().
  void announce(std::vector<VirtRead>& reads) {
    const std::size_t most =
        std::max<std::size_t>(1, kStructStepBytes / std::max<std::size_t>(1, layout_->extent()));
    const auto end =
        waiting_.begin() + static_cast<std::ptrdiff_t>(std::min(most, waiting_.size()));
    reading_.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(end));
    waiting_.erase(waiting_.begin(), end);
    batch_ = StructBatch(*layout_);
    for (const Item& item : reading_) batch_.add(item.address);
    batch_.announce(reads);
  }
  void take(std::span<VirtRead>& reads) { batch_.take(reads); }

  /// After an exchange: `use(address, tag, view)` for each that it read, in the order of add().
  template <typename Use>
  void each(Use use) {
    const std::vector<Item> items = std::exchange(reading_, {});
    for (std::size_t i = 0; i < items.size(); ++i) use(items[i].address, items[i].tag, batch_[i]);
  }

 private:
  struct Item {
    GuestVirt address;
    Tag tag;
  };

  const StructLayout* layout_;
  StructBatch batch_;
  std::vector<Item> waiting_;
  std::vector<Item> reading_;
};

}  // namespace guestscope
