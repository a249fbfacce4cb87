// Stack traces: a table of pointers to buckets by the id that programs were given, each bucket an
// array of addresses, or of build ids with offsets. Source of truth: kernel/bpf/stackmap.c.
#include <algorithm>
#include <bit>

#include "introspect/address_names.h"
#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum Map : std::size_t { kBucketCount, kBuckets };
constexpr FieldNeed kMapFields[] = {{"n_buckets"}, {"buckets"}};
constexpr StructNeed kMap = {"bpf_stack_map", kMapFields};

enum Bucket : std::size_t { kFrames, kData };
constexpr FieldNeed kBucketFields[] = {{"nr"}, {"data|ip"}};
constexpr StructNeed kBucket = {"stack_map_bucket", kBucketFields};

enum BuildId : std::size_t { kStatus, kId, kOffset, kAddress };
constexpr FieldNeed kBuildIdFields[] = {{"status"}, {"build_id"}, {"offset"}, {"ip"}};
constexpr StructNeed kBuildId = {"bpf_stack_build_id", kBuildIdFields};

constexpr std::string_view kBuildIdFlag = "stack_build_id";  // BPF_F_STACK_BUILD_ID
constexpr std::uint64_t kHasBuildId = 1;                     // BPF_STACK_BUILD_ID_VALID
constexpr std::uint64_t kHasAddress = 2;                     // BPF_STACK_BUILD_ID_IP
constexpr std::size_t kKeyBytes = 4;
/// About what the facts of one frame are held in.
constexpr std::size_t kFrameOverhead = 320;

std::string hex_of(ByteSpan bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

class StackReader {
 public:
  StackReader(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder)
      : context_(context), map_(map), builder_(builder) {}

  Result<void> list() {
    GS_CHECK(open());
    builder_.set_keys(KeyForm::kNumber);
    builder_.show_facts_only();
    builder_.set_strides(round_up_8(kKeyBytes), round_up_8(map_.value_size));
    constexpr std::size_t kStep = kContentStepBytes / 8;
    std::uint64_t at = std::min(builder_.part().from.position, bucket_count_);
    while (at < bucket_count_ && !builder_.part_is_full() && !full_) {
      const std::uint64_t n = std::min<std::uint64_t>(kStep, bucket_count_ - at);
      const auto pointers = context_.memory.read_bytes(buckets_.wrapping_add(at * 8), n * 8);
      if (!pointers) {
        builder_.problems().add(fmt::format("entries from {} on", at), pointers.error());
        break;
      }
      at = take_pointers(at, *pointers);
    }
    if (at < bucket_count_ && (full_ || builder_.part_is_full()))
      builder_.stop_at({.position = at});
    tell_frames();
    return {};
  }

 private:
  struct Trace {
    std::size_t record = 0;
    std::uint64_t frames = 0;
  };

  Result<void> open() {
    GS_ASSIGN(const StructLayout* layout, context_.layouts.get(kMap));
    GS_ASSIGN(bucket_, context_.layouts.get(kBucket));
    if (std::ranges::find(map_.flag_names, kBuildIdFlag) != map_.flag_names.end()) {
      GS_ASSIGN(build_id_, context_.layouts.get(kBuildId));
    }
    frame_bytes_ = build_id_ == nullptr ? 8 : build_id_->size();
    StructBatch batch(*layout);
    batch.add(map_.address);
    batch.read(context_.memory);
    GS_ASSIGN(const StructView view, batch[0]);
    bucket_count_ = view.u64(kBucketCount);
    buckets_ = map_.address.wrapping_add((*layout)[kBuckets].offset);
    if (bucket_count_ != std::bit_ceil(map_.max_entries) || map_.key_size != kKeyBytes ||
        map_.value_size == 0 || map_.value_size % frame_bytes_ != 0)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt,
                     "{} buckets for {} traces of {} bytes", bucket_count_, map_.max_entries,
                     map_.value_size);
    return {};
  }

  /// The buckets that the pointers of the ids from `first` on lead to, as far as the part goes;
  /// where to go on.
  std::uint64_t take_pointers(std::uint64_t first, ByteSpan pointers) {
    const std::size_t bytes = (*bucket_)[kData].offset + map_.value_size;
    const std::size_t step = std::max<std::size_t>(1, kContentStepBytes / bytes);
    std::size_t i = 0;
    while (i < pointers.size() / 8 && !full_ && !builder_.part_is_full()) {
      const std::uint64_t room = std::min<std::uint64_t>(step, builder_.room(step));
      ReadBatch batch;
      std::vector<std::uint32_t> ids;
      for (; i < pointers.size() / 8 && ids.size() < room; ++i) {
        const std::uint64_t at = load_le(pointers.data() + i * 8, 8);
        if (at == 0) continue;
        batch.add(GuestVirt(at), bytes);
        ids.push_back(static_cast<std::uint32_t>(first + i));
      }
      batch.read(context_.memory);
      for (std::size_t j = 0; j < ids.size(); ++j) take_bucket(ids[j], batch[j]);
    }
    return first + i;
  }

  void take_bucket(std::uint32_t id, const Result<ByteSpan>& bucket) {
    if (!bucket) {
      const std::size_t record = builder_.add(id, {});
      builder_.unreadable(record, 0);
      builder_.problems().add(fmt::format("entries[{}]", id), bucket.error());
      return;
    }
    const BoundField& count = (*bucket_)[kFrames];
    std::uint64_t frames = load_le(bucket->data() + count.offset, count.size);
    if (frames > map_.value_size / frame_bytes_) {
      builder_.problems().add(
          fmt::format("entries[{}]", id),
          {.code = ErrorCode::kCorrupt,
           .message = fmt::format("{} frames in {} bytes", frames, map_.value_size)});
      frames = map_.value_size / frame_bytes_;
    }
    // Behind them is what was there before; a system call gives zeros.
    const std::size_t record =
        builder_.add(id, bucket->subspan((*bucket_)[kData].offset, frames * frame_bytes_));
    traces_.push_back({.record = record, .frames = frames});
    builder_.charge(frames * kFrameOverhead);
    full_ = full_ || builder_.budget() < map_.value_size / frame_bytes_ * kFrameOverhead;
  }

  /// The value of a record as its frames.
  void tell_frames() {
    std::vector<GuestVirt> addresses;
    for_each_address([&](GuestVirt address) { addresses.push_back(address); });
    const auto names =
        AddressNames(context_.memory, context_.location, context_.layouts).of(addresses);
    auto name = names.begin();
    for (const Trace& trace : traces_) {
      FactList frames;
      for (std::uint64_t i = 0; i < trace.frames; ++i)
        frames.emplace_back(build_id_ == nullptr ? address_facts(address_at(trace, i), *name++)
                                                 : build_id_facts(frame(trace, i)));
      Facts facts;
      facts.push_back({.name = "frames", .value = FactValue(std::move(frames))});
      builder_.set_facts(trace.record, std::move(facts));
    }
  }

  template <typename Use>
  void for_each_address(Use use) {
    if (build_id_ != nullptr) return;
    for (const Trace& trace : traces_)
      for (std::uint64_t i = 0; i < trace.frames; ++i) use(address_at(trace, i));
  }

  ByteSpan frame(const Trace& trace, std::uint64_t index) {
    return ByteSpan(builder_.value_of(trace.record, 0)).subspan(index * frame_bytes_, frame_bytes_);
  }
  GuestVirt address_at(const Trace& trace, std::uint64_t index) {
    return GuestVirt(load_le(frame(trace, index).data(), 8));
  }

  static Facts address_facts(GuestVirt address, const std::string& name) {
    Facts facts;
    facts.push_back({.name = "address", .value = address});
    if (!name.empty()) facts.push_back({.name = "symbol", .value = name});
    return facts;
  }

  Facts build_id_facts(ByteSpan bytes) const {
    const auto view = StructView::over(*build_id_, bytes);
    Facts facts;
    if (!view) return facts;
    const std::uint64_t status = view->u64(kStatus);
    if (status == kHasAddress) {
      facts.push_back({.name = "address", .value = view->pointer(kAddress)});
      return facts;
    }
    facts.push_back({.name = "status",
                     .value = status == kHasBuildId ? FactValue("valid") : FactValue(status)});
    facts.push_back({.name = "build_id", .value = hex_of(view->bytes(kId))});
    facts.push_back({.name = "offset", .value = view->u64(kOffset)});
    return facts;
  }

  MapReadContext& context_;
  const MapInfo& map_;
  ContentsBuilder& builder_;
  const StructLayout* bucket_ = nullptr;
  const StructLayout* build_id_ = nullptr;  // null: frames are addresses
  std::size_t frame_bytes_ = 0;
  std::uint64_t bucket_count_ = 0;
  GuestVirt buckets_;
  std::vector<Trace> traces_;
  bool full_ = false;
};

Result<void> list_stacks(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return StackReader(context, map, builder).list();
}

}  // namespace

std::span<const MapReader> stack_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "stack_trace", .list = list_stacks, .find = find_by_index}};
  return kReaders;
}

}  // namespace guestscope
