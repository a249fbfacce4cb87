#include "introspect/hlist_walk.h"

#include <algorithm>
#include <numeric>

#include "introspect/limits.h"

namespace guestscope {

namespace {

struct Chain {
  std::uint32_t bucket = 0;
  std::uint64_t next = 0;  // a struct hlist_node
};

class HlistWalk {
 public:
  HlistWalk(KernelMemory& memory, const HlistTable& table, const VisitElement& visit,
            Problems& problems)
      : memory_(memory), table_(table), visit_(visit), problems_(problems) {}

  std::vector<std::uint32_t> run() {
    read_heads();
    while (!chains_.empty() && !done_) read_depth();
    std::vector<std::uint32_t> order(bucket_of_.size());
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, {}, [&](std::uint32_t visit) { return bucket_of_[visit]; });
    return order;
  }

 private:
  void read_heads() {
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / table_.bucket_stride);
    for (std::uint64_t first = 0; first < table_.count; first += step) {
      const std::size_t n = std::min<std::uint64_t>(step, table_.count - first);
      const auto bytes = memory_.read_bytes(
          table_.buckets.wrapping_add(first * table_.bucket_stride), n * table_.bucket_stride);
      if (!bytes) {
        problems_.add(fmt::format("buckets {} to {}", first, first + n - 1), bytes.error());
        continue;
      }
      for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t head =
            load_le(bytes->data() + i * table_.bucket_stride + table_.head, 8);
        if (head != 0)
          chains_.push_back({.bucket = static_cast<std::uint32_t>(first + i), .next = head});
      }
    }
  }

  void read_depth() {
    std::vector<Chain> rest;
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / table_.element_bytes);
    for (std::size_t first = 0; first < chains_.size() && !done_; first += step)
      read_step(std::span(chains_).subspan(first, std::min(step, chains_.size() - first)), rest);
    chains_ = std::move(rest);
  }

  void read_step(std::span<const Chain> chains, std::vector<Chain>& rest) {
    ReadBatch batch;
    batch.reserve(chains.size());
    for (const Chain& chain : chains) batch.add(element_at(chain), table_.element_bytes);
    batch.read(memory_);
    for (std::size_t i = 0; i < chains.size() && !done_; ++i) {
      const auto element = batch[i];
      if (!element) {
        problems_.add(fmt::format("bucket {}", chains[i].bucket), element.error());
        continue;
      }
      if (!seen_.insert(chains[i].next).second) {
        problems_.add(fmt::format("bucket {}", chains[i].bucket),
                      {.code = ErrorCode::kCorrupt,
                       .message = "its chain leads to an element that was there before",
                       .path = {},
                       .address = chains[i].next});
        continue;
      }
      done_ = !visit_(element_at(chains[i]), *element);
      if (done_) return;
      bucket_of_.push_back(chains[i].bucket);
      const std::uint64_t next = load_le(element->data() + table_.node, 8);
      if (next != 0) rest.push_back({.bucket = chains[i].bucket, .next = next});
    }
  }

  GuestVirt element_at(const Chain& chain) const {
    return GuestVirt(chain.next).wrapping_add(-std::uint64_t{table_.node});
  }

  KernelMemory& memory_;
  const HlistTable& table_;
  const VisitElement& visit_;
  Problems& problems_;
  std::vector<Chain> chains_;
  std::vector<std::uint32_t> bucket_of_;  // of each visit
  std::unordered_set<std::uint64_t> seen_;
  bool done_ = false;
};

}  // namespace

Result<std::vector<std::uint32_t>> walk_hlists(KernelMemory& memory, const HlistTable& table,
                                               const VisitElement& visit, Problems& problems) {
  if (table.count == 0 || (table.count & (table.count - 1)) != 0)
    return fail_at(table.buckets.value(), ErrorCode::kCorrupt, "a hash table of {} buckets",
                   table.count);
  if (table.count > kMaxContentBytes / table.bucket_stride)
    return fail_at(table.buckets.value(), ErrorCode::kUnsupported,
                   "a hash table of {} buckets is too large", table.count);
  if (table.head > table.bucket_stride - 8 || table.node + 8 > table.element_bytes)
    return fail(ErrorCode::kUnsupported, "the kernel's types describe no chain of a hash table");
  return HlistWalk(memory, table, visit, problems).run();
}

}  // namespace guestscope
