#include "introspect/symbol_recovery.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "introspect/layout.h"
#include "introspect/limits.h"

namespace guestscope {

namespace {

constexpr std::string_view kPerCpuSection = ".data..percpu";
constexpr std::size_t kMaxExportName = 64;

/// Variables that the model asks for and kernels export.
constexpr std::string_view kExported[] = {
    "__cpu_active_mask",
    "__cpu_dying_mask",
    "__cpu_online_mask",
    "__cpu_possible_mask",
    "__cpu_present_mask",
    "__per_cpu_offset",
    "avenrun",
    "bpf_stats_enabled_key",
    "init_pid_ns",
    "init_task",
    "jiffies",
    "kernel_cpustat",
    "kimage_voffset",
    "kstat",
    "memstart_addr",
    "page_offset_base",
    "phys_base",
    "system_state",
    "vmalloc_base",
};

/// Per-CPU variables that are not exported.
constexpr std::string_view kPerCpuVariables[] = {"runqueues", "tick_cpu_sched"};

/// A function that only this IDR's users call.
struct IdrUser {
  std::string_view idr;
  std::string_view function;
};
constexpr IdrUser kIdrUsers[] = {{"map_idr", "bpf_map_get_curr_or_next"},
                                 {"prog_idr", "bpf_prog_get_curr_or_next"},
                                 {"link_idr", "bpf_link_get_curr_or_next"},
                                 {"btf_idr", "btf_get_fd_by_id"}};

/// They form the address of the run queues, that of __per_cpu_offset perhaps, and no other: see
/// cpu_rq() of kernel/sched/sched.h, whose address no compiler may change before it is formed
/// (RELOC_HIDE).
constexpr std::string_view kRunQueueUsers[] = {"idle_cpu", "nr_iowait_cpu"};

/// Each class fills this member with a function of its own.
struct ClassMark {
  std::string_view sched_class;
  std::string_view function;
};
constexpr ClassMark kClassMarks[] = {
    {"stop_sched_class", "dequeue_task_stop"}, {"dl_sched_class", "dequeue_task_dl"},
    {"rt_sched_class", "dequeue_task_rt"},     {"fair_sched_class", "dequeue_task_fair"},
    {"ext_sched_class", "dequeue_task_scx"},   {"idle_sched_class", "dequeue_task_idle"},
};

std::uint64_t relative(std::uint64_t at, std::uint32_t word) {
  return at +
         static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<std::int32_t>(word)));
}

std::uint32_t word_at(ByteSpan bytes, std::size_t offset) {
  return static_cast<std::uint32_t>(load_le(bytes.data() + offset, 4));
}

/// The terminated text at `offset`; empty when it is none or too long to be a wanted name.
std::string_view name_at(ByteSpan bytes, std::uint64_t offset) {
  if (offset >= bytes.size()) return {};
  const std::size_t room = std::min<std::size_t>(bytes.size() - offset, kMaxExportName + 1);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + offset, room);
  const std::size_t end = text.find('\0');
  return end == text.npos ? std::string_view() : text.substr(0, end);
}

class Recovery {
 public:
  Recovery(const ImageView& image, const SymbolTable& functions, const Btf& types)
      : image_(image), functions_(functions), types_(types) {}

  std::vector<RecoveredSymbol> run() {
    collect_per_cpu_variables();
    search_exports();
    for (const std::string_view name : kExported)
      if (const auto value = exported(name)) add(name, *value);
    if (!recover_per_cpu()) recover_run_queues();
    for (const IdrUser& user : kIdrUsers) recover_idr(user);
    for (const ClassMark& mark : kClassMarks) recover_class(mark);
    return std::move(found_);
  }

 private:
  void add(std::string_view name, std::uint64_t value) {
    if (!functions_.find(name)) found_.push_back({.name = std::string(name), .value = value});
  }

  void collect_per_cpu_variables() {
    const auto section = types_.find(BtfKind::kDatasec, kPerCpuSection);
    if (!section) return;
    for (const BtfVariable variable : types_.variables(*section))
      per_cpu_.emplace(types_.name_of(variable.type), variable.offset);
  }

  /// Every pair of words that reads as a __ksymtab entry of a wanted name.
  void search_exports() {
    const std::unordered_set<std::string_view> wanted(std::begin(kExported), std::end(kExported));
    const ByteSpan bytes = image_.read_only;
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 4) {
      const std::uint64_t place = image_.address + at;
      const std::uint64_t name_place = relative(place + 4, word_at(bytes, at + 4));
      const std::string_view name = name_at(bytes, name_place - image_.address);
      if (name.empty() || (!wanted.contains(name) && !per_cpu_.contains(name))) continue;
      // Two values are as good as any number: the name is left out.
      if (auto& values = exports_[name]; values.size() < 2)
        values.insert(relative(place, word_at(bytes, at)));
    }
  }

  std::optional<std::uint64_t> exported(std::string_view name) const {
    const auto found = exports_.find(name);
    if (found == exports_.end() || found->second.size() != 1) return std::nullopt;
    return *found->second.begin();
  }

  /// The section's begin as most of the exported variables tell it; of two that are as likely,
  /// none.
  bool recover_per_cpu() {
    std::map<std::uint64_t, std::size_t> votes;
    for (const auto& [name, offset] : per_cpu_)
      if (const auto value = exported(name)) ++votes[*value - offset];
    const auto best =
        std::ranges::max_element(votes, {}, [](const auto& vote) { return vote.second; });
    if (best == votes.end() || !per_cpu_.contains("runqueues")) return false;
    const auto as_many = [&](const auto& vote) { return vote.second == best->second; };
    if (std::ranges::count_if(votes, as_many) != 1) return false;
    for (const std::string_view name : kPerCpuVariables)
      if (const auto offset = per_cpu_.find(name); offset != per_cpu_.end())
        add(name, best->first + offset->second);
    return true;
  }

  /// Types may lack the section: pahole before 1.18 did not write it, or was told not to.
  void recover_run_queues() {
    std::map<std::uint64_t, std::size_t> users;  // by what they form
    for (const std::string_view name : kRunQueueUsers) {
      const auto function = functions_.find(name);
      if (!function) return;
      const auto code = image_.read(function->value, size_of(*function));
      if (!code) return;
      const auto formed = addresses_in(*code, function->value);
      for (const std::uint64_t address : std::set(formed.begin(), formed.end())) ++users[address];
    }
    if (const auto offsets = exported("__per_cpu_offset")) users.erase(*offsets);
    std::erase_if(users, [](const auto& user) { return user.second != std::size(kRunQueueUsers); });
    if (users.size() == 1) add("runqueues", users.begin()->first);
  }

  /// Addresses in the image that the function's code forms in registers.
  std::vector<std::uint64_t> addresses_in(ByteSpan code, std::uint64_t address) const {
    return image_.machine == Machine::kAarch64 ? arm64_addresses(code, address)
                                               : x86_addresses(code, address);
  }

  /// ADRP Xd, page followed by one or more ADD Xd, Xn, #offset (Arm ARM, C6.2).
  static std::vector<std::uint64_t> arm64_addresses(ByteSpan code, std::uint64_t address) {
    std::vector<std::uint64_t> formed;
    std::array<std::optional<std::uint64_t>, 32> known{};  // by register
    for (std::size_t at = 0; at + 4 <= code.size(); at += 4) {
      const std::uint32_t word = word_at(code, at);
      if ((word & 0x9f000000U) == 0x90000000U) {
        const std::uint64_t pages_away = (word >> 5 & 0x7ffffU) << 2 | (word >> 29 & 3U);
        const auto distance = static_cast<std::int64_t>(pages_away << 43) >> 31;  // 21 bits, pages
        known[word & 31U] =
            ((address + at) & ~std::uint64_t{0xfff}) + static_cast<std::uint64_t>(distance);
      } else if ((word & 0xffc00000U) == 0x91000000U) {
        const auto base = known[word >> 5 & 31U];
        if (!base) continue;
        known[word & 31U] = *base + (word >> 10 & 0xfffU);
        formed.push_back(*known[word & 31U]);
      }
    }
    return formed;
  }

  /// MOV r64, imm32 (sign-extended: the image lies in the top 2 GiB) and LEA r64, [rip + disp32].
  static std::vector<std::uint64_t> x86_addresses(ByteSpan code, std::uint64_t address) {
    std::vector<std::uint64_t> formed;
    for (std::size_t at = 0; at + 7 <= code.size(); ++at) {
      const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(code[at + i]); };
      if ((byte(0) & 0xfbU) != 0x48) continue;  // REX.W, also with R
      if (byte(1) == 0xc7 && (byte(2) & 0xf8U) == 0xc0)
        formed.push_back(relative(0, word_at(code, at + 3)));
      if (byte(1) == 0x8d && (byte(2) & 0xc7U) == 0x05)
        formed.push_back(relative(address + at + 7, word_at(code, at + 3)));
    }
    return formed;
  }

  /// Up to the next symbol.
  std::size_t size_of(const Symbol& function) const {
    std::size_t size = 4;
    while (size < kMaxFunctionBytes) {
      const auto there = functions_.containing(function.value + size);
      if (!there || there->value != function.value) break;
      size += 4;
    }
    return size;
  }

  void recover_idr(const IdrUser& user) {
    static constexpr FieldNeed kFields[] = {{"idr_rt.xa_flags"}, {"idr_rt.xa_head"}};
    constexpr std::uint64_t kRootIsIdr = 4;  // ROOT_IS_IDR of include/linux/radix-tree.h
    const auto layout = StructLayout::bind(types_, "idr", kFields);
    const auto function = functions_.find(user.function);
    if (!layout || layout->size() > kMaxIdrBytes || !function) return;
    const auto code = image_.read(function->value, size_of(*function));
    if (!code) return;
    std::unordered_set<std::uint64_t> idrs;
    for (const std::uint64_t address : addresses_in(*code, function->value)) {
      const auto bytes = image_.read(address, layout->size());
      if (!bytes) continue;
      const auto view = StructView::over(*layout, *bytes);
      if (view && (view->u64(0) & kRootIsIdr) != 0) idrs.insert(address);
    }
    if (idrs.size() == 1) add(user.idr, *idrs.begin());
  }

  void recover_class(const ClassMark& mark) {
    static constexpr FieldNeed kFields[] = {{"dequeue_task"}};
    const auto layout = StructLayout::bind(types_, "sched_class", kFields);
    const auto function = functions_.find(mark.function);
    if (!layout || !function) return;
    std::unordered_set<std::uint64_t> classes;
    const ByteSpan bytes = image_.read_only;
    for (std::size_t at = 0; at + 8 <= bytes.size() && classes.size() < 2; at += 8)
      if (load_le(bytes.data() + at, 8) == function->value)
        classes.insert(image_.address + at - (*layout)[0].offset);
    if (classes.size() == 1) add(mark.sched_class, *classes.begin());
  }

  const ImageView& image_;
  const SymbolTable& functions_;
  const Btf& types_;
  std::unordered_map<std::string_view, std::uint32_t> per_cpu_;  // name → offset in the section
  std::unordered_map<std::string_view, std::unordered_set<std::uint64_t>> exports_;
  std::vector<RecoveredSymbol> found_;
};

}  // namespace

std::vector<RecoveredSymbol> recover_symbols(const ImageView& image, const SymbolTable& functions,
                                             const Btf& types) {
  return Recovery(image, functions, types).run();
}

}  // namespace guestscope
