#include "introspect/rb_walk.h"

namespace guestscope {

std::size_t RbForest::add(GuestVirt root, std::string at) {
  trees_.push_back({.at = std::move(at)});
  want(root, {.tree = trees_.size() - 1});
  return trees_.size() - 1;
}

void RbForest::damaged(std::size_t tree, Error error) {
  trees_[tree].whole = false;
  problems_.add(trees_[tree].at, std::move(error));
}

void RbForest::want(GuestVirt node, const Place& place) {
  if (node.is_null()) return;
  const auto refuse = [&](std::string message) {
    damaged(place.tree, {.code = ErrorCode::kCorrupt,
                         .message = std::move(message),
                         .path = {},
                         .address = node.value()});
  };
  if (place.depth == kMaxTreeDepth)
    refuse(fmt::format("a tree of more than {} levels", kMaxTreeDepth));
  else if (seen_.size() == kMaxTreeNodes)
    refuse(fmt::format("trees of more than {} nodes", kMaxTreeNodes));
  else if (!seen_.insert(node.value()).second)
    refuse("its tree leads to a node that was there before");
  else
    nodes_.add(node.wrapping_add(-std::uint64_t{nodes_.layout()[kNode].offset}), place);
}

void RbForest::take(std::span<VirtRead>& reads) {
  nodes_.take(reads);
  nodes_.each([&](GuestVirt address, const Place& place, const Result<StructView>& view) {
    if (view)
      found(place, address, *view);
    else
      damaged(place.tree, view.error());
  });
}

void RbForest::found(const Place& place, GuestVirt address, const StructView& view) {
  const std::size_t element = elements_.size();
  elements_.emplace_back();
  (place.parent == kNone ? trees_[place.tree].root : elements_[place.parent].child[place.side]) =
      element;
  visit_({.element = element, .tree = place.tree, .address = address, .view = view});
  for (const auto& [field, side] : {std::pair{kLeft, kLeftSide}, std::pair{kRight, kRightSide}})
    want(view.pointer(field),
         {.tree = place.tree, .parent = element, .side = side, .depth = place.depth + 1});
}

std::vector<std::size_t> RbForest::in_order(std::size_t tree) const {
  std::vector<std::size_t> order;
  std::vector<std::size_t> open;  // reached, but not yet in their place
  std::size_t at = trees_[tree].root;
  // Every element has one parent, so this ends.
  while (at != kNone || !open.empty()) {
    for (; at != kNone; at = elements_[at].child[kLeftSide]) open.push_back(at);
    order.push_back(open.back());
    at = elements_[open.back()].child[kRightSide];
    open.pop_back();
  }
  return order;
}

}  // namespace guestscope
