// RbForest: red-black trees (struct rb_root) of structures of one layout, walked side by side: one
// exchange for each level of all of them together. Trees may be added while others are walked.
//
//   RbForest forest(*layout, [&](const RbForest::Found& found) { … });
//   const auto tree = forest.add(root, "runqueues[0].tasks");
//   while (forest.busy()) read_together(memory, forest, …);
//   for (const std::size_t element : forest.in_order(tree)) …
//
// A node that was met before, in any of the trees, is a problem and is not followed; neither is
// what lies deeper than a tree of that kind can be. What could be read is kept.
//
// The layout must outlive the forest. Threads: one. Source of truth: include/linux/rbtree_types.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "introspect/problem.h"
#include "introspect/step_batch.h"

namespace guestscope {

class RbForest {
 public:
  /// What the layout's first fields have to be: the struct rb_node, and the two pointers in it.
  enum Field : std::size_t { kNode, kLeft, kRight, kFirstOwn };

  struct Found {
    std::size_t element = 0;  ///< counted from 0 through all trees
    std::size_t tree = 0;
    GuestVirt address;  ///< of the structure, not of its node
    const StructView& view;
  };
  /// Called for each structure as its level is read. It may add trees.
  using Visit = std::function<void(const Found&)>;

  RbForest(const StructLayout& container, Visit visit)
      : nodes_(container), visit_(std::move(visit)) {}

  /// The tree with that root node (null: an empty tree), as a number counted from 0. `at`: where in
  /// the answer its problems belong.
  std::size_t add(GuestVirt root, std::string at);

  /// There are levels left to read.
  bool busy() const { return nodes_.busy(); }
  /// The elements of a tree in its order, as far as they could be read.
  std::vector<std::size_t> in_order(std::size_t tree) const;
  /// Nothing is missing in that tree.
  bool is_whole(std::size_t tree) const { return trees_[tree].whole; }
  const Problems& problems() const { return problems_; }

  // One level: see read_together().
  void announce(std::vector<VirtRead>& reads) { nodes_.announce(reads); }
  void take(std::span<VirtRead>& reads);

 private:
  static constexpr std::size_t kNone = SIZE_MAX;
  enum Side : std::uint8_t { kLeftSide, kRightSide };

  struct Tree {
    std::string at;
    std::size_t root = kNone;
    bool whole = true;
  };
  struct Links {
    std::size_t child[2] = {kNone, kNone};
  };
  /// What leads to a node.
  struct Place {
    std::size_t tree = 0;
    std::size_t parent = kNone;
    Side side = kLeftSide;
    std::size_t depth = 0;
  };

  void want(GuestVirt node, const Place& place);
  void found(const Place& place, GuestVirt address, const StructView& view);
  void damaged(std::size_t tree, Error error);

  StepBatch<Place> nodes_;
  Visit visit_;
  std::vector<Tree> trees_;
  std::vector<Links> elements_;
  std::unordered_set<std::uint64_t> seen_;
  Problems problems_;
};

}  // namespace guestscope
