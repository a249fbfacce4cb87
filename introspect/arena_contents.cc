// Arenas: up to 4 GB of pages that programs and user space share, of which mostly few are there.
//
// The kernel maps page N of an arena at the lower half of its user address, counted from the
// middle of a guard in front of its own 4 GB. Which pages are there, its page tables say: holes are
// stepped over by the size of a last-level table. Where the arena has a tree of its free ranges
// (since 6.13), that is asked first: since 7.2 the tables of the whole arena exist, and what is
// free may be mapped to one page of scratch. Source of truth: kernel/bpf/arena.c,
// kernel/bpf/range_tree.c.
#include <algorithm>
#include <unordered_set>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Arena : std::size_t { kUserBegin, kUserEnd, kKernelArea, kFreeRanges };
constexpr FieldNeed kArenaFields[] = {
    {"user_vm_start"}, {"user_vm_end"}, {"kern_vm"}, {"rt.it_root.rb_root.rb_node", kOptional}};
constexpr StructNeed kArena = {"bpf_arena", kArenaFields};

enum Area : std::size_t { kAreaBegin, kAreaSize };
constexpr FieldNeed kAreaFields[] = {{"addr"}, {"size"}};
constexpr StructNeed kArea = {"vm_struct", kAreaFields};

enum Range : std::size_t { kNode, kFirst, kLast, kLeft, kRight };
constexpr FieldNeed kRangeFields[] = {
    {"rn_rbnode"}, {"rn_start"}, {"rn_last"}, {"rn_rbnode.rb_left"}, {"rn_rbnode.rb_right"}};
constexpr StructNeed kRange = {"range_node", kRangeFields};

constexpr int kInvalid = 22;                                   // EINVAL
constexpr std::uint64_t kArenaBytes = std::uint64_t{1} << 32;  // SZ_4G
constexpr std::uint64_t kMaxGuardBytes = 1U << 20;
/// Free ranges: at most every second page.
constexpr std::size_t kMaxFreeRanges = 1U << 19;
constexpr std::size_t kFactOverhead = 256;

/// Pages from `first` on, not including `end`.
struct Pages {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

class ArenaReader {
 public:
  ArenaReader(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder)
      : context_(context), map_(map), builder_(builder) {}

  Result<void> list() {
    GS_CHECK(open());
    builder_.set_keys(KeyForm::kNone);
    builder_.set_lookup_error(kInvalid);
    builder_.set_strides(0, page_bytes_);
    builder_.set_value_size(page_bytes_);
    const std::uint64_t from = builder_.part().from.position;
    for (const Pages& range : used_ranges()) {
      if (range.end <= from) continue;
      if (!list_range({.first = std::max(range.first, from), .end = range.end})) break;
    }
    return {};
  }

 private:
  Result<void> open() {
    GS_ASSIGN(const StructLayout* layout, context_.layouts.get(kArena));
    GS_ASSIGN(const StructLayout* area_layout, context_.layouts.get(kArea));
    StructBatch batch(*layout);
    batch.add(map_.address);
    batch.read(context_.memory);
    GS_ASSIGN(const StructView arena, batch[0]);
    StructBatch areas(*area_layout);
    areas.add(arena.pointer(kKernelArea));
    areas.read(context_.memory);
    GS_ASSIGN(const StructView area, areas[0]);
    page_bytes_ = context_.location.page_size;
    user_begin_ = arena.pointer(kUserBegin);
    const std::uint64_t user_bytes = arena.u64(kUserEnd) - user_begin_.value();
    pages_ = user_bytes / page_bytes_;
    // Behind the 4 GB and the guard is the page that separates areas.
    const std::uint64_t guard = area.u64(kAreaSize) - kArenaBytes - page_bytes_;
    if (guard > kMaxGuardBytes || user_bytes > kArenaBytes || pages_ > map_.max_entries)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt,
                     "an arena of {} bytes for {} pages, with a guard of {} bytes", user_bytes,
                     map_.max_entries, guard);
    begin_ = area.pointer(kAreaBegin)
                 .wrapping_add(guard / 2)
                 .wrapping_add(user_begin_.value() & (kArenaBytes - 1));
    has_free_ranges_ = arena.has(kFreeRanges);
    free_root_ = arena.u64(kFreeRanges);
    return {};
  }

  /// Pages that may be there, in order.
  std::vector<Pages> used_ranges() {
    std::vector<Pages> used;
    std::uint64_t done = 0;
    for (const Pages& free : free_ranges()) {
      if (free.first > done) used.push_back({.first = done, .end = std::min(free.first, pages_)});
      done = std::max(done, free.end);
    }
    if (done < pages_) used.push_back({.first = done, .end = pages_});
    return used;
  }

  /// The tree of free ranges, level by level, in order of the ranges. What cannot be read of it is
  /// left to the page tables.
  std::vector<Pages> free_ranges() {
    std::vector<Pages> free;
    const auto layout = context_.layouts.get(kRange);
    if (!has_free_ranges_ || !layout) return free;
    const std::uint64_t to_range = (**layout)[kNode].offset;
    std::unordered_set<std::uint64_t> seen;
    for (std::vector<std::uint64_t> level{free_root_}; !level.empty();) {
      StructBatch batch(**layout);
      for (const std::uint64_t node : level)
        if (node != 0 && seen.size() < kMaxFreeRanges && seen.insert(node).second)
          batch.add(GuestVirt(node - to_range));
      level.clear();
      batch.read(context_.memory);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        const auto range = batch[i];
        if (!range) {
          builder_.problems().add("free pages", range.error());
          continue;
        }
        if (range->u64(kFirst) <= range->u64(kLast))
          free.push_back({.first = range->u64(kFirst), .end = range->u64(kLast) + 1});
        level.push_back(range->u64(kLeft));
        level.push_back(range->u64(kRight));
      }
    }
    std::ranges::sort(free, {}, &Pages::first);
    return free;
  }

  GuestVirt address_of(std::uint64_t page) const { return begin_.wrapping_add(page * page_bytes_); }

  /// False when the part ends here.
  bool list_range(const Pages& range) {
    const PagingLevel last = context_.location.regime->levels().back();
    const std::uint64_t block = std::uint64_t{1} << last.index_bits;  // pages of a last table
    constexpr std::size_t kBlocksAtOnce = 1024;
    for (std::uint64_t at = range.first; at < range.end;) {
      std::vector<Pages> blocks;
      std::vector<GuestVirt> firsts;
      while (at < range.end && blocks.size() < kBlocksAtOnce) {
        const std::uint64_t to_next =
            address_of(at).bytes_to_boundary(block * page_bytes_) / page_bytes_;
        const std::uint64_t end = std::min(range.end, at + std::max<std::uint64_t>(1, to_next));
        blocks.push_back({.first = at, .end = end});
        firsts.push_back(address_of(at));
        at = end;
      }
      const auto translations = context_.memory.translate(firsts);
      for (std::size_t i = 0; i < blocks.size(); ++i)
        if (has_table(blocks[i], translations[i]) && !list_block(blocks[i])) return false;
    }
    return true;
  }

  bool has_table(const Pages& block, const Result<Translation>& first) {
    if (!first) {
      report(block.first, first.error());
      return false;
    }
    const Hole* hole = std::get_if<Hole>(&*first);
    return hole == nullptr || hole->level == 1;
  }

  bool list_block(const Pages& block) {
    std::vector<GuestVirt> addresses;
    for (std::uint64_t page = block.first; page < block.end; ++page)
      addresses.push_back(address_of(page));
    const auto translations = context_.memory.translate(addresses);
    std::vector<std::uint64_t> there;
    for (std::size_t i = 0; i < translations.size(); ++i) {
      if (!translations[i])
        report(block.first + i, translations[i].error());
      else if (std::holds_alternative<Mapping>(*translations[i]))
        there.push_back(block.first + i);
    }
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / page_bytes_);
    for (std::size_t done = 0; done < there.size();) {
      const std::uint64_t room = builder_.room(std::min(step, there.size() - done));
      if (room == 0 || builder_.part_is_full()) {
        builder_.stop_at({.position = there[done]});
        return false;
      }
      read_pages_at(std::span(there).subspan(done, room));
      done += room;
    }
    return true;
  }

  void read_pages_at(std::span<const std::uint64_t> pages) {
    const std::size_t record = builder_.count();
    const std::span<std::byte> bytes = builder_.append(pages.size());
    std::vector<VirtRead> reads;
    for (std::size_t i = 0; i < pages.size(); ++i)
      reads.push_back(
          {.address = address_of(pages[i]), .into = bytes.subspan(i * page_bytes_, page_bytes_)});
    context_.memory.read(reads);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      builder_.charge(kFactOverhead);
      const std::uint64_t offset = pages[i] * page_bytes_;
      Facts facts;
      facts.push_back({.name = "offset", .value = offset});
      facts.push_back({.name = "address", .value = user_begin_.wrapping_add(offset)});
      facts.push_back({.name = "size", .value = page_bytes_});
      builder_.set_facts(record + i, std::move(facts));
      if (!reads[i].error) continue;
      builder_.unreadable(record + i, 0);
      report(pages[i], *std::move(reads[i].error));
    }
  }

  void report(std::uint64_t page, Error error) {
    builder_.problems().add(fmt::format("page {}", page), std::move(error));
  }

  MapReadContext& context_;
  const MapInfo& map_;
  ContentsBuilder& builder_;
  std::uint64_t page_bytes_ = 0;
  std::uint64_t pages_ = 0;
  GuestVirt user_begin_;
  GuestVirt begin_;  // page 0, where the kernel has it
  bool has_free_ranges_ = false;
  std::uint64_t free_root_ = 0;
};

Result<void> list_arena(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return ArenaReader(context, map, builder).list();
}

}  // namespace

std::span<const MapReader> arena_readers() {
  static constexpr MapReader kReaders[] = {{.type = "arena", .list = list_arena, .find = nullptr}};
  return kReaders;
}

}  // namespace guestscope
