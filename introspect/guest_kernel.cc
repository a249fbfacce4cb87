#include "introspect/guest_kernel.h"

#include <algorithm>
#include <charconv>

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
  reset_accessors();
  // Half of what was sought may have been another guest's.
  if (!model_ || !model_->file->is_complete()) start_over();
}

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
  const Error reason = read ? discovery_->progress() : read.error();
  maps_.wait_for(reason);
  progs_.wait_for(reason);
  per_cpu_.wait_for(reason);
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
  ReadBatch batch;
  const auto online = model_->per_cpu ? std::optional(batch.add(kernel.at(model_->per_cpu->online),
                                                                model_->per_cpu->mask_bytes))
                                      : std::nullopt;
  const auto state =
      boot.system_state ? std::optional(batch.add(kernel.at(*boot.system_state), 4)) : std::nullopt;
  const bool slide_told = model_->file->has_link_addresses();
  if (slide_told) kaslr_slide_ = kernel.slide;
  const auto crash_notes = !kaslr_slide_ && boot.vmcoreinfo
                               ? std::optional(batch.add(kernel.at(*boot.vmcoreinfo), 8))
                               : std::nullopt;
  batch.read(reader);
  if (online && batch[*online]) online_cpus_ = cpus_in_mask(*batch[*online]).size();
  if (state && batch[*state])
    boot_stage_ = boot.system_states.name_or_number(load_le(batch[*state]->data(), 4), "state");
  if (crash_notes && batch[*crash_notes])
    kaslr_slide_ = read_kaslr_slide(reader, GuestVirt(load_le(batch[*crash_notes]->data(), 8)));
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

Result<MapList> GuestKernel::maps(PhysMemory& memory) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  auto list = read_maps(reader, *model_->maps, *accessor);
  known_maps_.clear();
  if (list)
    for (const MapInfo& map : list->maps) known_maps_.emplace(map.id, map);
  return list;
}

Result<MapInfo> GuestKernel::map(PhysMemory& memory, std::uint64_t id) {
  const MapAccessor* accessor = maps_.get();
  const auto known = known_maps_.find(id);
  if (accessor != nullptr && known != known_maps_.end()) {
    KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
    auto map = read_map_again(reader, *model_->maps, known->second);
    if (map || map.error().code != ErrorCode::kNotFound) return map;
  }
  GS_ASSIGN(const MapList list, maps(memory));
  const auto found = std::ranges::find(list.maps, id, &MapInfo::id);
  if (found != list.maps.end()) return *found;
  if (!list.problems.empty()) return std::unexpected(list.problems.list().front().error);
  return fail(ErrorCode::kNotFound, "no map with id {}", id);
}

Result<MapContents> GuestKernel::with_map_context(PhysMemory& memory, std::size_t& budget,
                                                  const ReadMap& read) {
  const MapAccessor* accessor = maps_.get();
  if (accessor == nullptr) return std::unexpected(why_not(maps_.status(), "maps"));
  KernelMemory reader(memory, *accessor->location.regime, accessor->location.linear);
  MapReadContext context{.memory = reader,
                         .location = accessor->location,
                         .model = *model_->maps,
                         .layouts = *layouts_,
                         .types = types_,
                         .budget = budget,
                         .per_cpu = per_cpu_.get(),
                         .hash_proven = hash_proven_};
  return read(context);
}

Result<MapContents> GuestKernel::map_contents(PhysMemory& memory, const MapInfo& map,
                                              const MapPart& part, std::size_t& budget) {
  return with_map_context(memory, budget, [&](MapReadContext& context) {
    return read_map_contents(context, map, part);
  });
}

Result<MapContents> GuestKernel::map_entry(PhysMemory& memory, const MapInfo& map,
                                           const MakeKey& make_key) {
  std::size_t budget = kMaxContentBytes;
  return with_map_context(memory, budget, [&](MapReadContext& context) {
    return read_map_entry(context, map, make_key);
  });
}

Result<ProgReadContext> GuestKernel::prog_context(PhysMemory& memory) {
  const ProgAccessor* accessor = progs_.get();
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (accessor == nullptr) return std::unexpected(why_not(progs_.status(), "programs"));
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  return ProgReadContext{
      .memory = KernelMemory(memory, *accessor->location.regime, accessor->location.linear),
      .model = *model_->progs,
      .layouts = *layouts_,
      .accessor = *accessor,
      .per_cpu = *per_cpu};
}

Result<ProgList> GuestKernel::progs(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_progs(context);
}

Result<Bytes> GuestKernel::prog_code(PhysMemory& memory, const ProgInfo& prog, ProgCode which) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_prog_code(context, prog, which);
}

Result<LinkList> GuestKernel::links(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_links(context);
}

Result<BtfObjectList> GuestKernel::btf_objects(PhysMemory& memory) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_btf_objects(context);
}

Result<Bytes> GuestKernel::btf_bytes(PhysMemory& memory, const BtfInfo& object) {
  GS_ASSIGN(ProgReadContext context, prog_context(memory));
  return read_btf_bytes(context, object);
}

Result<RunQueueList> GuestKernel::run_queues(PhysMemory& memory) {
  const PerCpuOffsets* per_cpu = per_cpu_.get();
  if (per_cpu == nullptr) return std::unexpected(why_not(per_cpu_.status(), "per-CPU offsets"));
  if (!model_->run_queues) return std::unexpected(model_->run_queues.error());
  KernelMemory reader(memory, *per_cpu->location.regime, per_cpu->location.linear);
  return read_run_queues(reader, *model_->run_queues, *model_, *per_cpu);
}

}  // namespace guestscope
