#include "introspect/guest_kernel.h"

#include <algorithm>
#include <charconv>

#include "introspect/read_cache.h"

namespace guestscope {

namespace {

/// What the kernel tells crash tools of itself (kernel/vmcore_info.c): lines of NAME=VALUE in one
/// page. Empty as long as it has not been written.
std::optional<std::uint64_t> read_kaslr_slide(KernelMemory& memory, GuestVirt vmcoreinfo) {
  constexpr std::size_t kBytes = 4096;  // VMCOREINFO_BYTES
  constexpr std::string_view kName = "KERNELOFFSET=";
  if (vmcoreinfo.is_null()) return std::nullopt;
  const auto bytes = memory.read_bytes(vmcoreinfo, kBytes);
  if (!bytes) return std::nullopt;
  const std::string_view text = text_in(*bytes);
  const std::size_t at = text.find(kName);
  if (at == text.npos) return std::nullopt;
  std::uint64_t slide = 0;
  const char* begin = text.data() + at + kName.size();
  const auto parsed = std::from_chars(begin, text.data() + text.size(), slide, 16);
  return parsed.ec == std::errc() ? std::optional(slide) : std::nullopt;
}

bool is_same_place(const Result<KernelImage>& a, const KernelImage& b) {
  return a && a->text_base == b.text_base && a->phys == b.phys && a->data_base == b.data_base;
}

bool is_mismatch(const AccessorStatus& status) {
  return status.last_error && status.last_error->code == ErrorCode::kMismatch;
}

}  // namespace

bool KernelSummary::ready() const {
  return maps.state == AccessorState::kReady && progs.state == AccessorState::kReady &&
         per_cpu.state == AccessorState::kReady;
}

bool KernelSummary::settled() const {
  return maps.state != AccessorState::kWaiting && progs.state != AccessorState::kWaiting &&
         per_cpu.state != AccessorState::kWaiting;
}

GuestKernel::GuestKernel(std::shared_ptr<const KernelModel> model, Warn warn)
    : given_(std::move(model)), warn_(std::move(warn)), types_(nullptr) {
  start_over();
}

/// Takes what the user has given; what that lacks will be sought in the guest.
void GuestKernel::start_over() {
  model_.reset();
  model_proven_ = false;
  found_in_.reset();
  found_id_.clear();
  if (given_ && given_->file->is_complete())
    use_model(given_);
  else
    discovery_.emplace(given_ ? given_->file : nullptr);
}

/// What was found in the guest belongs to the kernel that ran then: it is sought again. False when
/// the same has been found before and has never been right: it would not be the next time.
bool GuestKernel::search_again() {
  if (model_ == given_) return false;
  std::string found = model_->file->release() + " " + found_id_;
  if (!model_proven_ && refuted_ == found) return false;
  if (model_proven_)
    refuted_.reset();
  else
    refuted_ = std::move(found);
  reset_accessors();
  start_over();
  return true;
}

/// The file is the guest's, but what it lacked was found in another kernel, before a reboot.
bool GuestKernel::is_foreign() const {
  const std::string& id = model_->file->build_id();
  return model_ != given_ && !found_id_.empty() && !id.empty() && found_id_ != id;
}

void GuestKernel::use_model(std::shared_ptr<const KernelModel> model) {
  model_ = std::move(model);
  discovery_.reset();
  types_ = BtfCache(model_->file);
  layouts_.emplace(model_->file);
  hash_proven_ = false;
}

const KernelLocation* GuestKernel::location() const {
  if (const auto* accessor = maps_.get()) return &accessor->location;
  if (const auto* accessor = progs_.get()) return &accessor->location;
  if (const auto* accessor = per_cpu_.get()) return &accessor->location;
  return located_ ? &*located_ : nullptr;
}

bool GuestKernel::ready() const { return maps_.get() && progs_.get() && per_cpu_.get(); }

bool GuestKernel::wants_attempt() const {
  return maps_.wants_attempt() || progs_.wants_attempt() || per_cpu_.wants_attempt();
}

bool GuestKernel::waits_for_reboot() const {
  return mismatched() || (found_in_ && !model_->file->is_complete());
}

bool GuestKernel::mismatched() const {
  return is_mismatch(maps_.status()) || is_mismatch(progs_.status()) ||
         is_mismatch(per_cpu_.status());
}

void GuestKernel::reset_accessors() {
  maps_.reset();
  progs_.reset();
  per_cpu_.reset();
  types_.clear();
  known_maps_.clear();
  located_.reset();
  kaslr_slide_.reset();
  online_cpus_.reset();
  boot_stage_.reset();
}

void GuestKernel::forget() {
  settle(false);
  reset_accessors();
  // Half of what was sought may have been another guest's.
  if (!model_ || !model_->file->is_complete()) start_over();
}

/// The vCPU has this boot's per-CPU base in its registers, which a reset takes away: then its page
/// tables, which are another process's every time, need not be looked at.
bool GuestKernel::runs_here(const PagingRegisters& registers) const {
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  const Processor* processor = find_processor(registers.machine);
  if (per_cpu == nullptr || processor == nullptr) return false;
  const GuestVirt page_offset = per_cpu->location.page_offset;
  return std::ranges::any_of(
      processor->per_cpu_bases(registers, page_offset), [&](std::uint64_t base) {
        return base != 0 &&
               std::ranges::find(per_cpu->offsets, std::optional(base)) != per_cpu->offsets.end();
      });
}

bool GuestKernel::same_boot(PhysMemory& memory, const OtherRegisters& others) {
  const KernelLocation* known = location();
  if (known != nullptr && known->canary != 0) {
    const PagingRegisters first = registers_.load();
    if (is_still_there(memory, *model_, *known, first, runs_here(first))) return true;
    for (const PagingRegisters& other : others ? others() : std::vector<PagingRegisters>()) {
      if (!is_still_there(memory, *model_, *known, other, runs_here(other))) continue;
      registers_.store(other);
      return true;
    }
  }
  const auto found = locate_kernel(memory, *model_, registers_.load());
  if (known != nullptr) return found && found->same_boot(*known);
  return !mismatched() || (!found && found.error().code == ErrorCode::kMismatch);
}

bool GuestKernel::refresh(PhysMemory& memory, const OtherRegisters& others) {
  ReadCache cache(memory);
  if (doubtful_) {
    if (location() == nullptr || !same_boot(cache, others)) return false;
    read_live(cache);
    return true;
  }
  settle_boot(cache, memory, others);
  return true;
}

std::optional<Error> GuestKernel::absence(PhysMemory& memory) const {
  ReadCache cache(memory);
  const auto why = [](const auto& found) {
    return found || found.error().code != ErrorCode::kNotReady ? std::nullopt
                                                               : std::optional(found.error());
  };
  const PagingRegisters registers = registers_.load();
  if (discovery_) return why(find_kernel_image(cache, registers));
  return why(locate_kernel(cache, *model_, registers));
}

void GuestKernel::note_absence(const Error& reason) {
  if (discovery_) return wait_for(reason);
  const auto fail = [&](auto& accessor, std::string_view name) {
    if (accessor.attempt([&] { return std::unexpected(reason); })) warn_(name, accessor.status());
  };
  fail(maps_, "maps");
  fail(progs_, "progs");
  fail(per_cpu_, "per_cpu_offsets");
}

void GuestKernel::wait_for(const Error& reason) {
  maps_.wait_for(reason);
  progs_.wait_for(reason);
  per_cpu_.wait_for(reason);
}

/// Which boot it is, and what can be known of it by now.
void GuestKernel::settle_boot(PhysMemory& cache, PhysMemory& memory, const OtherRegisters& others) {
  if ((location() != nullptr || mismatched()) && !same_boot(cache, others)) {
    // What was found in a guest that did not fit the file may be the wrong half of this one.
    if (mismatched() && model_ != given_) start_over();
    reset_accessors();
  }
  if (mismatched() && !given_) search_again();
  if (discovery_) return discover(memory);
  if (found_in_ && !model_->boot &&
      !is_same_place(find_kernel_image(cache, registers_.load()), *found_in_)) {
    reset_accessors();
    start_over();
    return;
  }
  if (!attempt_accessors(cache)) return;

  const KernelLocation* now = location();
  if (now == nullptr || (is_foreign() && search_again())) return;
  model_proven_ = true;
  if (!last_boot_ || !now->same_boot(*last_boot_)) {
    ++boots_;
    last_boot_ = *now;
  }
  if (now->canary == 0) {  // nothing tells whether an id is still of this boot
    types_.clear();
    known_maps_.clear();
  }
  read_live(cache);
}

/// Not through the cache: every byte is read once.
void GuestKernel::discover(PhysMemory& memory) {
  const auto read = discovery_->read_slice(memory, registers_.load());
  wait_for(read ? discovery_->progress() : read.error());
}

bool GuestKernel::digest() {
  if (!discovery_) return false;
  discovery_->digest();
  if (!discovery_->done()) return false;
  const KernelImage image = discovery_->image();
  found_id_ = discovery_->build_id();
  use_model(KernelModel::bind(discovery_->take()));
  found_in_ = image;
  return true;
}

/// False when it turns out that what was found in the guest has to be sought again.
bool GuestKernel::attempt_accessors(PhysMemory& memory) {
  const auto attempt = [&](auto& accessor, std::string_view name, auto try_init) {
    if (accessor.attempt([&] { return try_init(memory, *model_, registers_); }))
      warn_(name, accessor.status());
  };
  attempt(maps_, "maps", try_init_map_accessor);
  attempt(progs_, "progs", try_init_prog_accessor);
  attempt(per_cpu_, "per_cpu_offsets", try_init_per_cpu_offsets);
  // With no types, say, nothing can be read, but which kernel runs can still be told.
  if (location() != nullptr || wants_attempt() || mismatched()) return true;
  auto found = locate_kernel(memory, *model_, registers_.load());
  if (found) located_ = *std::move(found);
  // Another kernel may have what that one lacked.
  return found || found.error().code != ErrorCode::kMismatch || !search_again();
}

void GuestKernel::read_live(PhysMemory& memory) {
  const KernelLocation& kernel = *location();
  KernelMemory reader(memory, *kernel.regime, kernel.linear);
  online_cpus_.reset();
  boot_stage_.reset();
  const BootModel& boot = *model_->boot;
  const bool slide_told = model_->file->has_link_addresses();
  if (slide_told) kaslr_slide_ = kernel.slide;

  ReadBatch batch;  // of a null address: nothing
  const auto add = [&](const std::optional<std::uint64_t>& symbol, std::size_t size) {
    return batch.add(symbol ? kernel.at(*symbol) : GuestVirt(), size);
  };
  const auto number = [&](std::size_t index) {
    const auto bytes = batch[index];
    return bytes ? std::optional(load_le(bytes->data(), bytes->size())) : std::nullopt;
  };
  const std::size_t mask_bytes = model_->per_cpu ? model_->per_cpu->mask_bytes : 0;
  const std::size_t online =
      add(model_->per_cpu ? std::optional(model_->per_cpu->online) : std::nullopt, mask_bytes);
  const std::size_t state = add(boot.system_state, 4);
  const std::size_t ticks = add(boot.jiffies, 8);
  const std::size_t crash_notes = add(kaslr_slide_ ? std::nullopt : boot.vmcoreinfo, 8);
  batch.read(reader);
  if (const auto mask = batch[online]; mask && mask_bytes != 0)
    online_cpus_ = cpus_in_mask(*mask).size();
  if (const auto value = number(state))
    boot_stage_ = boot.system_states.name_or_number(*value, "state");
  ticks_ = number(ticks);
  if (const auto notes = number(crash_notes))
    kaslr_slide_ = read_kaslr_slide(reader, GuestVirt(*notes));
}

KernelSummary GuestKernel::summary() const {
  KernelSummary summary{.file = model_   ? model_->file
                                : given_ ? given_->file
                                         : nullptr,
                        .machine = registers_.load().machine,
                        .kaslr_slide = kaslr_slide_,
                        .maps = maps_.status(),
                        .progs = progs_.status(),
                        .per_cpu = per_cpu_.status(),
                        .boots = boots_};
  if (const KernelLocation* known = location()) summary.location = *known;
  if (const PerCpuOffsets* offsets = per_cpu_.get())
    summary.possible_cpus = offsets->possible_cpus().size();
  summary.online_cpus = online_cpus_;
  summary.boot_stage = boot_stage_;
  return summary;
}

}  // namespace guestscope
