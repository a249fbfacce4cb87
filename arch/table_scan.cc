#include "arch/table_scan.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace guestscope {

namespace {

constexpr std::size_t kEntryBytes = 8;

struct Table {
  GuestPhys at;
  GuestVirt base;  // what its first entry translates
  bool executable = true;
};

void append(std::vector<MappedRun>& runs, const MappedRun& run) {
  if (!runs.empty() && runs.back().executable == run.executable && runs.back().meets(run))
    runs.back().size += run.size;
  else
    runs.push_back(run);
}

class Scanner {
 public:
  Scanner(const PagingRegime& regime, PhysMemory& memory, GuestVirt first)
      : regime_(regime), memory_(memory), first_(first) {}

  Result<TableScan> run() {
    const PagingLevel top = regime_.levels().front();
    const std::uint64_t below_root = (std::uint64_t{1} << (top.shift + top.index_bits)) - 1;
    push({.at = regime_.root(), .base = GuestVirt(first_.value() & ~below_root)}, 0);
    for (std::size_t depth = 0; depth < regime_.levels().size(); ++depth) {
      const std::vector<Table> tables = std::exchange(next_, {});
      const std::size_t step = std::max<std::size_t>(1, kScanStepBytes / table_bytes(depth));
      for (std::size_t at = 0; at < tables.size(); at += step)
        GS_CHECK(read(std::span(tables).subspan(at, std::min(step, tables.size() - at)), depth));
    }
    std::ranges::sort(found_.runs, {}, &MappedRun::begin);
    std::vector<MappedRun> joined;
    for (const MappedRun& run : found_.runs) append(joined, run);
    found_.runs = std::move(joined);
    return std::move(found_);
  }

 private:
  std::size_t table_bytes(std::size_t depth) const {
    return kEntryBytes << regime_.levels()[depth].index_bits;
  }

  void push(const Table& table, std::size_t depth) {
    if (seen_.contains(table.at)) return;
    if (table_bytes(depth) > bytes_left_) {
      found_.complete = false;
      return;
    }
    bytes_left_ -= table_bytes(depth);
    seen_.insert(table.at);
    next_.push_back(table);
  }

  Result<void> read(std::span<const Table> tables, std::size_t depth) {
    const std::size_t size = table_bytes(depth);
    Bytes content(tables.size() * size);
    std::vector<PhysRead> reads;
    reads.reserve(tables.size());
    for (std::size_t i = 0; i < tables.size(); ++i)
      reads.push_back(
          {.address = tables[i].at, .into = std::span(content).subspan(i * size, size)});
    memory_.read(reads);
    for (std::size_t i = 0; i < tables.size(); ++i) {
      if (!reads[i].error)
        look_at(tables[i], ByteSpan(content).subspan(i * size, size), depth);
      else if (reads[i].error->code != ErrorCode::kNotRam)
        return std::unexpected(std::move(*reads[i].error));
    }
    return {};
  }

  void look_at(const Table& table, ByteSpan content, std::size_t depth) {
    const std::uint64_t span = std::uint64_t{1} << regime_.levels()[depth].shift;
    std::vector<MappedRun> runs;
    for (std::size_t i = 0; i < content.size() / kEntryBytes; ++i) {
      const GuestVirt begin = table.base.wrapping_add(i * span);
      if (begin.wrapping_add(span - 1) < first_) continue;
      const TableEntry entry =
          regime_.decode(depth, load_le(content.data() + i * kEntryBytes, kEntryBytes));
      const bool executable = table.executable && entry.executable;
      if (entry.kind == TableEntry::Kind::kLeaf)
        append(runs,
               {.begin = begin, .phys = entry.target, .size = span, .executable = executable});
      else if (entry.kind == TableEntry::Kind::kTable && depth + 1 < regime_.levels().size())
        push({.at = entry.target, .base = begin, .executable = executable}, depth + 1);
    }
    const bool smallest_pages = depth + 1 == regime_.levels().size();
    keep(runs, smallest_pages ? table.base : GuestVirt());
  }

  // Scattered data pages are most of what there is and of no interest: of tables of the smallest
  // pages only those runs are kept that may follow executable ones. Those at the beginning of the
  // table may follow one of the table before.
  void keep(std::span<const MappedRun> runs, GuestVirt table_base) {
    const MappedRun* before = nullptr;
    for (const MappedRun& run : runs) {
      const bool may_follow =
          table_base.is_null() || run.begin == table_base || (before && before->meets(run));
      before = nullptr;
      if (!run.executable && !may_follow) continue;
      before = &run;
      if (found_.runs.size() < kMaxScanRuns)
        found_.runs.push_back(run);
      else
        found_.complete = false;
    }
  }

  const PagingRegime& regime_;
  PhysMemory& memory_;
  GuestVirt first_;
  std::vector<Table> next_;
  std::unordered_set<GuestPhys> seen_;
  std::size_t bytes_left_ = kMaxScanTableBytes;
  TableScan found_;
};

}  // namespace

Result<TableScan> scan_tables(const PagingRegime& regime, PhysMemory& memory, GuestVirt first) {
  return Scanner(regime, memory, first).run();
}

}  // namespace guestscope
