#include "introspect/guest_kernel.h"

#include "introspect/read_cache.h"

namespace guestscope {

namespace {

Error why_not(const AccessorStatus& status, std::string_view what) {
  if (status.last_error) {
    // Whatever the attempt ran into, for the one who asks it means "not yet" unless it is for good.
    Error error = *status.last_error;
    if (is_transient(error.code)) error.code = ErrorCode::kNotReady;
    return error;
  }
  return {.code = ErrorCode::kNotReady,
          .message = fmt::format("no attempt to find the {} yet", what)};
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
    : model_(std::move(model)), warn_(std::move(warn)), types_(model_->file) {}

const KernelLocation* GuestKernel::location() const {
  if (const auto* accessor = maps_.get()) return &accessor->location;
  if (const auto* accessor = progs_.get()) return &accessor->location;
  if (const auto* accessor = per_cpu_.get()) return &accessor->location;
  return nullptr;
}

bool GuestKernel::ready() const { return maps_.get() && progs_.get() && per_cpu_.get(); }

bool GuestKernel::wants_attempt() const {
  return maps_.wants_attempt() || progs_.wants_attempt() || per_cpu_.wants_attempt();
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
  online_cpus_.reset();
  boot_stage_.reset();
}

void GuestKernel::forget() { reset_accessors(); }

bool GuestKernel::same_boot(PhysMemory& memory, const OtherRegisters& others) {
  const KernelLocation* known = location();
  if (known != nullptr) {
    if (is_still_there(memory, *model_, *known, registers_.load())) return true;
    for (const PagingRegisters& other : others ? others() : std::vector<PagingRegisters>()) {
      if (!is_still_there(memory, *model_, *known, other)) continue;
      registers_.store(other);
      return true;
    }
  }
  const auto found = locate_kernel(memory, *model_, registers_.load());
  if (known != nullptr) return found && found->same_boot(*known);
  return !mismatched() || (!found && found.error().code == ErrorCode::kMismatch);
}

void GuestKernel::refresh(PhysMemory& memory, const OtherRegisters& others) {
  ReadCache cache(memory);
  if ((location() != nullptr || mismatched()) && !same_boot(cache, others)) reset_accessors();

  const auto attempt = [&](auto& accessor, std::string_view name, auto try_init) {
    if (accessor.attempt([&] { return try_init(cache, *model_, registers_); }))
      warn_(name, accessor.status());
  };
  attempt(maps_, "maps", try_init_map_accessor);
  attempt(progs_, "progs", try_init_prog_accessor);
  attempt(per_cpu_, "per_cpu_offsets", try_init_per_cpu_offsets);

  const KernelLocation* now = location();
  if (now == nullptr) return;
  if (!last_boot_ || !now->same_boot(*last_boot_)) {
    ++boots_;
    last_boot_ = *now;
  }
  if (now->canary == 0) types_.clear();  // nothing tells whether an id is still of this boot
  read_live(cache);
}

void GuestKernel::read_live(PhysMemory& memory) {
  const KernelLocation& kernel = *location();
  KernelMemory reader(memory, *kernel.regime, kernel.linear);
  online_cpus_.reset();
  boot_stage_.reset();
  const BootModel& boot = *model_->boot;
  ReadBatch batch;
  const auto online = model_->per_cpu ? std::optional(batch.add(kernel.at(model_->per_cpu->online),
                                                                model_->per_cpu->mask_bytes))
                                      : std::nullopt;
  const auto state =
      boot.system_state ? std::optional(batch.add(kernel.at(*boot.system_state), 4)) : std::nullopt;
  batch.read(reader);
  if (online && batch[*online]) online_cpus_ = cpus_in_mask(*batch[*online]).size();
  if (state && batch[*state])
    boot_stage_ = boot.system_states.name_or_number(load_le(batch[*state]->data(), 4), "state");
}

KernelSummary GuestKernel::summary() const {
  KernelSummary summary{.maps = maps_.status(),
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

Result<MapList> GuestKernel::maps(PhysMemory& memory) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  return read_maps(reader, *model_->maps, *accessor);
}

Result<MapContents> GuestKernel::map_contents(PhysMemory& memory, const MapInfo& map,
                                              std::size_t& budget) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  MapReadContext context{.memory = reader,
                         .model = *model_->maps,
                         .types = types_,
                         .budget = budget,
                         .per_cpu = per_cpu_.get()};
  return read_map_contents(context, map);
}

Result<ProgList> GuestKernel::progs(PhysMemory& memory) {
  const ProgAccessor* accessor = progs_.get();
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (accessor == nullptr) return std::unexpected(why_not(progs_.status(), "programs"));
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  return read_progs(reader, *model_->progs, *accessor, *per_cpu);
}

Result<RunQueueList> GuestKernel::run_queues(PhysMemory& memory) {
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  if (!model_->run_queues) return std::unexpected(model_->run_queues.error());
  KernelMemory reader(memory, *per_cpu->location.regime, per_cpu->location.linear);
  return read_run_queues(reader, *model_->run_queues, *model_, *per_cpu);
}

}  // namespace guestscope
