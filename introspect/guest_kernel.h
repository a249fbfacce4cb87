// GuestKernel: what is known of one guest's kernel at this moment, and every question that can be
// asked about it.
//
// What the kernel file lacks, or all of it when there is no file, is first sought in the guest's
// memory (KernelDiscovery), a slice for each refresh().
// It holds the three lazily filled accessors and notices reboots, which empty all three at once.
// Every call reads through the memory it is given, which must stand still meanwhile (one stop of
// the guest); registers are refreshed by the caller beforehand, through registers(). Once it is
// ready() it may also be given memory that may not: between doubt() and settle() nothing is learned
// for good.
//
// Threads: one, the guest's session thread. The values that it returns may travel.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "introspect/accessors.h"
#include "introspect/bpf_links.h"
#include "introspect/btf_objects.h"
#include "introspect/fact_report.h"
#include "introspect/kernel_discovery.h"
#include "introspect/lazy_accessor.h"
#include "introspect/map_contents.h"
#include "introspect/prog_code.h"
#include "introspect/run_queues.h"
#include "introspect/scx.h"

namespace guestscope {

/// What /status says of the kernel. Empty where it is not known (yet).
struct KernelSummary {
  std::optional<KernelLocation> location{};
  std::shared_ptr<const KernelFile> file{};  ///< symbols and types, wherever they came from
  Machine machine = Machine::kOther;         ///< the guest's
  std::optional<std::uint64_t> kaslr_slide{};
  std::optional<std::size_t> possible_cpus{};
  std::optional<std::size_t> online_cpus{};
  std::optional<std::string> boot_stage{};
  AccessorStatus maps{};
  AccessorStatus progs{};
  AccessorStatus per_cpu{};
  std::uint64_t boots = 0;  ///< kernels seen booting on this guest

  bool ready() const;
  /// No accessor waits any more: each is ready or has failed for good.
  bool settled() const;
};

class GuestKernel {
 public:
  /// `warn` is told, once in a boot for each accessor, why it does not become ready.
  using Warn = std::function<void(std::string_view accessor, const AccessorStatus&)>;
  /// `model`: of the kernel file; null when there is none.
  GuestKernel(std::shared_ptr<const KernelModel> model, Warn warn);

  PagingRegisterCell& registers() { return registers_; }

  /// First checks that the boot which filled the accessors is still the one that runs, then
  /// attempts what is not filled.
  /// `others`: registers of the other vCPUs, asked for only when those in registers() do not lead
  /// to the known kernel (in firmware's management mode, or while a guest of the guest runs, a vCPU
  /// has other page tables).
  using OtherRegisters = std::function<std::vector<PagingRegisters>()>;
  /// False, in doubt only: it looks like another boot. Nothing has been changed then.
  bool refresh(PhysMemory& memory, const OtherRegisters& others = {});
  /// Nothing has been found of this boot, and nothing is in sight.
  bool is_unseen() const { return location() == nullptr && !mismatched() && !discovering(); }
  /// Why there is no kernel yet, by what an unseen guest's memory has; empty when there may be one.
  /// Changes nothing.
  std::optional<Error> absence(PhysMemory& memory) const;
  /// An attempt, and what it came to: absence(), from memory of one instant.
  void note_absence(const Error& reason);
  /// What is read from now on, until settle(), may not be of one instant.
  void doubt() {
    doubtful_ = true;
    types_.doubt();
  }
  void settle(bool was_right) {
    doubtful_ = false;
    types_.settle(was_right);
  }
  /// The half of refresh() that needs no guest: searching and parsing what it has read. To be
  /// called after each refresh(), once the guest runs again. True when all has been found that
  /// there is: the next refresh() may come at once.
  bool digest();
  /// Symbols or types are being sought in guest memory: the next refresh() may come at once.
  bool discovering() const { return discovery_ && discovery_->started(); }
  /// True while some accessor may still become ready by trying again.
  bool wants_attempt() const;
  /// Nothing can come of trying before the guest reboots: it runs another kernel than the file's,
  /// or one in whose memory symbols or types were sought in vain.
  bool waits_for_reboot() const;
  bool ready() const;
  /// Kernels seen booting on this guest.
  std::uint64_t boots() const { return boots_; }
  /// Forgets the boot: the connection was lost, and with it the certainty that it is still the same
  /// guest.
  void forget();

  /// As after the last refresh(); reads nothing.
  KernelSummary summary() const;
  /// The kernel's count of timer ticks as of the last refresh(). When it stands still, all CPUs
  /// sleep, the guest is stopped, or its memory is that of a kernel that no longer runs.
  std::optional<std::uint64_t> ticks() const { return ticks_; }

  // kNotReady, kUnsupported or kMismatch as the accessor that is needed; its attempts are in
  // summary().
  Result<MapList> maps(PhysMemory& memory);
  /// A map that maps() has listed in this boot, with one read. kNotFound: it is gone, or was never
  /// listed.
  Result<MapInfo> known_map(PhysMemory& memory, std::uint64_t id);
  /// `budget`: bytes that the answer may still hold; what this map takes is subtracted.
  Result<MapContents> map_contents(PhysMemory& memory, const MapInfo& map, const MapPart& part,
                                   std::size_t& budget);
  Result<MapContents> map_entry(PhysMemory& memory, const MapInfo& map, const MakeKey& make_key);
  Result<ProgList> progs(PhysMemory& memory);
  Result<Bytes> prog_code(PhysMemory& memory, const ProgInfo& prog, ProgCode which);
  Result<LinkList> links(PhysMemory& memory);
  Result<BtfObjectList> btf_objects(PhysMemory& memory);
  Result<Bytes> btf_bytes(PhysMemory& memory, const BtfInfo& object);
  Result<RunQueueList> run_queues(PhysMemory& memory, bool with_tasks);
  Result<TaskList> tasks(PhysMemory& memory);
  Result<ScxReport> scx(PhysMemory& memory);
  Result<FactReport> topology(PhysMemory& memory);
  Result<FactReport> stats(PhysMemory& memory);

 private:
  Result<ProgReadContext> prog_context(PhysMemory& memory);
  /// `read(SchedContext&)`, a Result, once the per-CPU offsets are there.
  template <typename Read>
  auto with_scheduler(PhysMemory& memory, Read read) -> std::invoke_result_t<Read, SchedContext&>;
  using ReadMap = std::function<Result<MapContents>(MapReadContext&)>;
  Result<MapContents> with_map_context(PhysMemory& memory, std::size_t& budget,
                                       const ReadMap& read);
  void settle_boot(PhysMemory& cache, PhysMemory& memory, const OtherRegisters& others);
  bool runs_here(const PagingRegisters& registers) const;
  bool same_boot(PhysMemory& memory, const OtherRegisters& others);
  void reset_accessors();
  bool mismatched() const;
  void start_over();
  bool search_again();
  bool is_foreign() const;
  void discover(PhysMemory& memory);
  void wait_for(const Error& reason);
  void use_model(std::shared_ptr<const KernelModel> model);
  bool attempt_accessors(PhysMemory& memory);
  void read_live(PhysMemory& memory);
  const KernelLocation* location() const;

  std::shared_ptr<const KernelModel> given_;  // of the kernel file; null without one
  std::shared_ptr<const KernelModel> model_;  // the one in use; null until it has been found
  bool model_proven_ = false;                 // it has been the guest's kernel
  std::optional<KernelDiscovery> discovery_;  // while something is missing
  std::optional<KernelImage> found_in_;       // where it was found
  std::string found_id_;                      // the build id there, if it is known
  std::optional<std::string> refuted_;        // what was found, and was never the guest's kernel
  Warn warn_;
  PagingRegisterCell registers_;
  LazyAccessor<MapAccessor> maps_;
  LazyAccessor<ProgAccessor> progs_;
  LazyAccessor<PerCpuOffsets> per_cpu_;
  BtfCache types_;
  std::optional<Layouts> layouts_;               // of model_
  std::map<std::uint64_t, MapInfo> known_maps_;  // as last listed
  bool doubtful_ = false;
  bool hash_proven_ = false;               // see MapReadContext
  std::optional<KernelLocation> located_;  // when every accessor has failed for good
  std::optional<KernelLocation> last_boot_;
  std::uint64_t boots_ = 0;
  std::optional<std::uint64_t> kaslr_slide_;
  std::optional<std::size_t> online_cpus_;
  std::optional<std::string> boot_stage_;
  std::optional<std::uint64_t> ticks_;
};

}  // namespace guestscope
