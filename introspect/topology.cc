#include "introspect/topology.h"

#include <algorithm>
#include <map>

#include "introspect/cpu_masks.h"
#include "introspect/domain_facts.h"
#include "introspect/figures.h"
#include "introspect/sched_groups.h"
#include "introspect/text_batch.h"

namespace guestscope {

namespace {

enum Rq : std::size_t { kRqDomain, kRqRoot };
constexpr FieldNeed kRqFields[] = {{"sd"}, {"rd", kOptional}};
constexpr StructNeed kRq = {"rq", kRqFields};

enum Root : std::size_t { kRootSpan, kRootOnline, kRootFirstFigure };
constexpr FieldNeed kRootFixed[] = {{"span"}, {"online"}};
constexpr Figure kRootFigures[] = {{"overloaded", "overloaded|overload", FigureKind::kBool},
                                   {"overutilized", "overutilized", FigureKind::kBool},
                                   {"max_cpu_capacity", "max_cpu_capacity"},
                                   {"rt_overloaded_cpus", "rto_count.counter"},
                                   {"dl_overloaded_cpus", "dlo_count.counter"},
                                   {"dl_bw", "dl_bw.bw"},
                                   {"dl_total_bw", "dl_bw.total_bw"}};
constexpr auto kRootFields = figure_needs(kRootFixed, kRootFigures);
constexpr StructNeed kRoot = {"root_domain", kRootFields};

enum Shared : std::size_t { kSharedFirstFigure };
constexpr FieldNeed kSharedFixed[] = {{"ref"}};
constexpr Figure kSharedFigures[] = {{"nr_busy_cpus", "nr_busy_cpus.counter", FigureKind::kSigned},
                                     {"has_idle_cores", "has_idle_cores", FigureKind::kBool},
                                     {"nr_idle_scan", "nr_idle_scan", FigureKind::kSigned}};
constexpr auto kSharedFields = figure_needs(kSharedFixed, kSharedFigures);
constexpr StructNeed kShared = {"sched_domain_shared", kSharedFields};

enum Domain : std::size_t {
  kParent,
  kGroups,
  kName,
  kSharedData,
  kFlags,
  kSpan,
  kLevel,
  kFirstFigure
};
constexpr FieldNeed kDomainFixed[] = {
    {"parent"},          {"groups"}, {"name", kOptional}, {"shared", kOptional}, {"flags"},
    {"span", kOptional}, {"level"}};
static_assert(std::size(kDomainFixed) == kFirstFigure);
constexpr Figure kDomainFigures[] = {{"span_weight", "span_weight"},
                                     {"min_interval_ms", "min_interval"},
                                     {"max_interval_ms", "max_interval"},
                                     {"balance_interval_ms", "balance_interval"},
                                     {"busy_factor", "busy_factor"},
                                     {"imbalance_pct", "imbalance_pct"},
                                     {"cache_nice_tries", "cache_nice_tries"},
                                     {"imb_numa_nr", "imb_numa_nr"},
                                     {"nohz_idle", "nohz_idle", FigureKind::kBool},
                                     {"last_balance", "last_balance"},
                                     {"nr_balance_failed", "nr_balance_failed"},
                                     {"newidle_call", "newidle_call"},
                                     {"newidle_success", "newidle_success"},
                                     {"newidle_ratio", "newidle_ratio"},
                                     {"max_newidle_lb_cost_ns", "max_newidle_lb_cost"}};
constexpr auto kDomainFields = figure_needs(kDomainFixed, kDomainFigures);
constexpr StructNeed kDomain = {"sched_domain", kDomainFields};

struct FoundDomain {
  GuestVirt address;
  GuestVirt groups, name, shared;
  std::string span;
  std::int64_t level = 0;
  std::uint64_t flags = 0;
  Facts figures;
  Facts balance;
};

struct CpuDomains {
  unsigned cpu = 0;
  GuestVirt root;
  GuestVirt next;  ///< the level to be read; null at the end
  std::vector<FoundDomain> domains;
};

const StructLayout kNoLayout;

class TopologyReader {
 public:
  TopologyReader(SchedContext& context, SchedGroups groups)
      : context_(context), masks_(context), groups_(std::move(groups)) {}

  Result<FactReport> read() {
    GS_CHECK(read_queues());
    GS_ASSIGN(domain_, context_.layouts.get(kDomain));
    if (const auto balance = context_.layouts.get(kDomainBalanceNeed)) balance_ = *balance;
    roots_.emplace(optional_layout(kRoot));
    for (const CpuDomains& cpu : cpus_)
      if (roots_->size() < kMaxCpus && !cpu.root.is_null() &&
          root_index_.try_emplace(cpu.root, roots_->size()).second)
        roots_->add(cpu.root);
    masks_.follow();
    for (std::size_t depth = 0; depth == 0 || waiting(); ++depth) {
      if (depth == kMaxDomainDepth) {
        too_deep();
        break;
      }
      read_level(depth == 0);
    }
    read_parts();
    return report();
  }

 private:
  const StructLayout& optional_layout(const StructNeed& need) {
    const auto layout = context_.layouts.get(need);
    return layout ? **layout : kNoLayout;
  }
  std::string place(const CpuDomains& cpu) const {
    return fmt::format("domains[{}].domains[{}]", &cpu - cpus_.data(), cpu.domains.size());
  }
  bool waiting() const {
    return std::ranges::any_of(cpus_, [](const CpuDomains& cpu) { return !cpu.next.is_null(); });
  }
  void too_deep() {
    for (CpuDomains& cpu : cpus_)
      if (!cpu.next.is_null())
        problems_.add(place(cpu), {.code = ErrorCode::kCorrupt,
                                   .message = fmt::format("more than {} domains above each other",
                                                          kMaxDomainDepth),
                                   .path = {},
                                   .address = cpu.next.value()});
  }

  Result<void> read_queues() {
    GS_ASSIGN(const StructLayout* rq, context_.layouts.get(kRq));
    StructBatch queues(*rq);
    for (const unsigned cpu : context_.per_cpu.possible_cpus()) {
      queues.add(context_.per_cpu.on_cpu(context_.per_cpu_symbol(context_.queues.runqueues), cpu));
      cpus_.push_back({.cpu = cpu, .root = {}, .next = {}, .domains = {}});
    }
    read_together(context_.memory, queues, masks_.globals());
    for (std::size_t i = 0; i < cpus_.size(); ++i) {
      if (const auto view = queues[i]) {
        cpus_[i].next = view->pointer(kRqDomain);
        cpus_[i].root = view->pointer(kRqRoot);
      } else {
        problems_.add(fmt::format("domains[{}]", i), view.error());
      }
    }
    return {};
  }

  /// All CPUs' domains of one level, side by side.
  void read_level(bool lowest) {
    StructBatch domains(*domain_);
    StructBatch balance(balance_ != nullptr ? *balance_ : kNoLayout);
    ReadBatch spans;
    const BoundField& span = (*domain_)[kSpan];
    std::vector<CpuDomains*> reading;
    for (CpuDomains& cpu : cpus_) {
      if (cpu.next.is_null()) continue;
      reading.push_back(&cpu);
      domains.add(cpu.next);
      if (balance_ != nullptr) balance.add(cpu.next);
      // The newest kernels do not declare the field, for what a compiler may make of it: it is what
      // follows the structure.
      spans.add(cpu.next.wrapping_add(span.present ? span.offset : domain_->size()),
                cpu_mask_bytes(context_));
    }
    if (lowest)
      read_together(context_.memory, domains, balance, spans, *roots_, masks_.rest());
    else
      read_together(context_.memory, domains, balance, spans);
    for (std::size_t i = 0; i < reading.size(); ++i) {
      Result<StructView> balanced = fail(ErrorCode::kUnsupported, "");
      if (balance_ != nullptr) balanced = balance[i];
      take(*reading[i], domains[i], balanced, spans[i]);
    }
  }

  void take(CpuDomains& cpu, const Result<StructView>& view, const Result<StructView>& balance,
            const Result<ByteSpan>& span) {
    const GuestVirt at = std::exchange(cpu.next, {});
    if (!view || !span) {
      problems_.add(place(cpu), view ? span.error() : view.error());
      return;
    }
    FoundDomain domain{.address = at,
                       .groups = view->pointer(kGroups),
                       .name = view->pointer(kName),
                       .shared = view->pointer(kSharedData),
                       .span = cpu_list(cpus_in_mask(*span)),
                       .level = view->s64(kLevel),
                       .flags = view->u64(kFlags),
                       .figures = {},
                       .balance = {}};
    const std::size_t bytes = kDomainBytes + domain.span.size();
    if (bytes > budget_) {
      problems_.add(place(cpu), {.code = ErrorCode::kUnsupported,
                                 .message = "left out: too many domains for one answer",
                                 .path = {},
                                 .address = at.value()});
      return;
    }
    budget_ -= bytes;
    add_figures(domain.figures, *view, kDomainFigures, kFirstFigure);
    if (balance) domain.balance = domain_balance(context_.layouts.kernel().btf(), *balance);
    const GuestVirt parent = view->pointer(kParent);
    cpu.domains.push_back(std::move(domain));
    const bool circle = std::ranges::any_of(
        cpu.domains, [&](const FoundDomain& below) { return below.address == parent; });
    if (!circle) {
      cpu.next = parent;
      return;
    }
    problems_.add(place(cpu), {.code = ErrorCode::kCorrupt,
                               .message = "its domain leads back into one below it",
                               .path = {},
                               .address = at.value()});
  }

  /// Names, shared data, groups with their capacities, and the root domains' masks.
  void read_parts() {
    shared_.emplace(optional_layout(kShared));
    for (const CpuDomains& cpu : cpus_)
      for (const FoundDomain& domain : cpu.domains) {
        if (!domain.name.is_null() && name_index_.try_emplace(domain.name, names_.size()).second)
          names_.add(domain.name, kMaxKernelLabelBytes);
        if (!domain.shared.is_null() &&
            shared_index_.try_emplace(domain.shared, shared_->size()).second)
          shared_->add(domain.shared);
        groups_.add(domain.groups);
      }
    for (const auto& [address, index] : root_index_)
      if (const auto view = (*roots_)[index]; view && view->has(kRootSpan)) {
        root_masks_.add(mask_place(context_, *view, kRootSpan, address), cpu_mask_bytes(context_));
        root_masks_.add(mask_place(context_, *view, kRootOnline, address),
                        cpu_mask_bytes(context_));
      }
    groups_.prepare();
    read_together(context_.memory, names_, *shared_, root_masks_, groups_.groups(), groups_.spans(),
                  groups_.capacities());
    names_.finish(context_.memory);
    groups_.take();
    while (!groups_.done()) {
      groups_.prepare();
      read_together(context_.memory, groups_.groups(), groups_.spans(), groups_.capacities());
      groups_.take();
    }
  }

  FactList root_facts() {
    FactList list;
    std::size_t mask = 0;
    for (const auto& [address, index] : root_index_) {
      const auto view = (*roots_)[index];
      Facts facts = {{.name = "address", .value = address}};
      if (!view) {
        problems_.add(fmt::format("root_domains[{}]", list.size()), view.error());
      } else if (view->has(kRootSpan)) {
        for (const char* name : {"span", "online"}) {
          const auto bytes = root_masks_[mask++];
          if (!bytes)
            problems_.add(fmt::format("root_domains[{}].{}", list.size(), name), bytes.error());
          facts.push_back(
              {.name = name,
               .value = bytes ? FactValue(cpu_list(cpus_in_mask(*bytes))) : FactValue()});
        }
        add_figures(facts, *view, kRootFigures, kRootFirstFigure);
      }
      list.emplace_back(std::move(facts));
    }
    return list;
  }

  Facts domain_facts(FoundDomain& domain, const std::string& at) {
    Facts facts;
    if (const auto found = name_index_.find(domain.name); found != name_index_.end()) {
      const auto name = names_[found->second];
      if (!name) problems_.add(at + ".name", name.error());
      facts.push_back({.name = "name", .value = name ? FactValue(*name) : FactValue()});
    }
    facts.push_back({.name = "level", .value = domain.level});
    facts.push_back({.name = "span", .value = std::move(domain.span)});
    facts.push_back({.name = "flags", .value = domain.flags});
    facts.push_back(
        {.name = "flag_names", .value = domain_flag_names(context_.layouts, domain.flags)});
    std::ranges::move(domain.figures, std::back_inserter(facts));
    if (const auto found = shared_index_.find(domain.shared); found != shared_index_.end()) {
      Facts shared;
      if (const auto view = (*shared_)[found->second])
        add_figures(shared, *view, kSharedFigures, std::size(kSharedFixed));
      else
        problems_.add(at + ".shared", view.error());
      if (!shared.empty()) facts.push_back({.name = "shared", .value = std::move(shared)});
    }
    auto groups = groups_.ring(domain.groups, budget_);
    if (!groups) problems_.add(at + ".groups", groups.error());
    facts.push_back(
        {.name = "groups", .value = groups ? FactValue(*std::move(groups)) : FactValue()});
    if (!domain.balance.empty())
      facts.push_back({.name = "balance", .value = std::move(domain.balance)});
    return facts;
  }

  FactReport report() {
    Facts facts = {{.name = "cpus", .value = masks_.facts(problems_)}};
    facts.push_back({.name = "root_domains", .value = root_facts()});
    FactList cpus;
    for (std::size_t i = 0; i < cpus_.size(); ++i) {
      FactList domains;
      for (std::size_t level = 0; level < cpus_[i].domains.size(); ++level)
        domains.emplace_back(domain_facts(cpus_[i].domains[level],
                                          fmt::format("domains[{}].domains[{}]", i, level)));
      cpus.emplace_back(Facts{{.name = "cpu", .value = cpus_[i].cpu},
                              {.name = "domains", .value = std::move(domains)}});
    }
    facts.push_back({.name = "domains", .value = std::move(cpus)});
    return {.facts = std::move(facts), .problems = std::move(problems_)};
  }

  SchedContext& context_;
  CpuMasks masks_;
  SchedGroups groups_;
  const StructLayout* domain_ = nullptr;
  const StructLayout* balance_ = nullptr;
  std::vector<CpuDomains> cpus_;
  std::optional<StructBatch> roots_;
  std::map<GuestVirt, std::size_t> root_index_;
  ReadBatch root_masks_;
  TextBatch names_;
  std::map<GuestVirt, std::size_t> name_index_;
  std::optional<StructBatch> shared_;
  std::map<GuestVirt, std::size_t> shared_index_;
  std::size_t budget_ = kMaxTopologyBytes;
  Problems problems_;
};

}  // namespace

Result<FactReport> read_topology(SchedContext& context) {
  GS_ASSIGN(SchedGroups groups, SchedGroups::over(context));
  return TopologyReader(context, std::move(groups)).read();
}

}  // namespace guestscope
