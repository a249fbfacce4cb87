// Ring buffers, filled by programs or by user space: the records that have not been consumed.
//
// A position counts bytes since the beginning and is never reduced; its place in the ring is what
// the mask leaves of it. A record is a header of 8 bytes and its payload, rounded up to 8; it may
// pass the ring's end. (The kernel maps the ring twice, one after the other; that is not used
// here.) Of a ring that programs fill, `consumer_pos` is written by user space; of one that user
// space fills, everything else: nothing of it can be trusted. Source of truth:
// kernel/bpf/ringbuf.c.
#include <algorithm>

#include "introspect/contents_builder.h"
#include "introspect/limits.h"
#include "introspect/read_pages.h"
#include "introspect/struct_batch.h"

namespace guestscope {

namespace {

enum RingMap : std::size_t { kRingPointer };
constexpr FieldNeed kMapFields[] = {{"rb"}};
constexpr StructNeed kMap = {"bpf_ringbuf_map", kMapFields};

enum Ring : std::size_t {
  kMask,
  kConsumer,
  kProducer,
  kPending,
  kOverwriteMode,
  kOverwritten,
  kData
};
constexpr FieldNeed kRingFields[] = {{"mask"},
                                     {"consumer_pos"},
                                     {"producer_pos"},
                                     {"pending_pos", kOptional},
                                     {"overwrite_mode", kOptional},
                                     {"overwrite_pos", kOptional},
                                     {"data"}};
constexpr StructNeed kRing = {"bpf_ringbuf", kRingFields};

constexpr std::uint32_t kBusy = 1U << 31;       // BPF_RINGBUF_BUSY_BIT
constexpr std::uint32_t kDiscarded = 1U << 30;  // BPF_RINGBUF_DISCARD_BIT
constexpr std::size_t kHeaderBytes = 8;         // BPF_RINGBUF_HDR_SZ
constexpr int kNotSupported = 524;              // the kernel's own ENOTSUPP
/// About what a record's facts are held in, beside the text of its bytes.
constexpr std::size_t kRecordOverhead = 512;

void append_hex(std::string& text, ByteSpan bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
}

class RingReader {
 public:
  RingReader(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder)
      : context_(context), map_(map), builder_(builder) {}

  Result<void> list() {
    GS_CHECK(open());
    std::uint64_t at = begin_;
    if (const auto position = builder_.part().from.position; position - begin_ < end_ - begin_)
      at = position;
    while (at != end_) {
      if (builder_.part().limit <= builder_.count()) {
        builder_.stop_at({.position = at});
        break;
      }
      const auto next = take(at);
      if (!next) break;
      at = *next;
    }
    return {};
  }

 private:
  Result<void> open() {
    GS_ASSIGN(const StructLayout* map_layout, context_.layouts.get(kMap));
    GS_ASSIGN(const StructLayout* layout, context_.layouts.get(kRing));
    builder_.set_keys(KeyForm::kNone);
    builder_.show_facts_only();
    builder_.set_lookup_error(kNotSupported);
    GS_ASSIGN(const std::uint64_t ring,
              context_.memory.read_number(
                  map_.address.wrapping_add((*map_layout)[kRingPointer].offset), 8));
    StructBatch batch(*layout);
    batch.add(GuestVirt(ring));
    batch.read(context_.memory);
    GS_ASSIGN(const StructView view, batch[0]);
    mask_ = view.u64(kMask);
    if (mask_ == ~std::uint64_t{0} || (mask_ & (mask_ + 1)) != 0 || mask_ + 1 < kHeaderBytes ||
        mask_ + 1 != map_.max_entries)
      return fail_at(map_.address.value(), ErrorCode::kCorrupt,
                     "a ring with the mask {:#x} for {} bytes", mask_, map_.max_entries);
    data_ = GuestVirt(ring).wrapping_add((*layout)[kData].offset);
    tell_positions(view);
    return {};
  }

  void tell_positions(const StructView& ring) {
    const bool overwrites = ring.u64(kOverwriteMode) != 0;
    begin_ = ring.u64(kConsumer);
    end_ = ring.u64(kProducer);
    builder_.add_map_fact("consumer_pos", begin_);
    builder_.add_map_fact("producer_pos", end_);
    if (ring.has(kPending)) builder_.add_map_fact("pending_pos", ring.u64(kPending));
    if (overwrites) {
      builder_.add_map_fact("overwrite_pos", ring.u64(kOverwritten));
      begin_ = std::max(begin_, ring.u64(kOverwritten));
    }
    const std::uint64_t pending = end_ - begin_;
    const bool sound = begin_ <= end_ && pending <= mask_ + 1 && begin_ % 8 == 0 && end_ % 8 == 0;
    builder_.add_map_fact("pending_bytes", sound ? FactValue(pending) : FactValue());
    builder_.add_map_fact("size", mask_ + 1);
    if (sound) return;
    report(begin_, "positions that no records can lie between");
    end_ = begin_;
  }

  /// The record at the position; where the next one is, or nothing when that cannot be told.
  std::optional<std::uint64_t> take(std::uint64_t at) {
    const auto header = bytes_at(at, kHeaderBytes);
    if (!header) {
      builder_.problems().add(fmt::format("record at {}", at & mask_), header.error());
      return std::nullopt;
    }
    const auto word = static_cast<std::uint32_t>(load_le(header->data(), 4));
    const std::uint64_t size = word & ~(kBusy | kDiscarded);
    const std::uint64_t whole = round_up_8(size + kHeaderBytes);
    if (whole > end_ - at) {
      report(at, "a record that is longer than what is left of the ring");
      return std::nullopt;
    }
    const std::size_t cost = kRecordOverhead + size * 2;
    if (cost > context_.budget || !builder_.has_room(1)) {
      builder_.problems().add("entries",
                              {.code = ErrorCode::kUnsupported,
                               .message = "too much for one answer: the rest is left out",
                               .path = {},
                               .address = at & mask_});
      return std::nullopt;
    }
    auto value = hex_at(at + kHeaderBytes, size);
    if (!value) builder_.problems().add(fmt::format("record at {}", at & mask_), value.error());
    builder_.charge(cost);
    const std::size_t record = builder_.count();
    builder_.append(1);
    Facts facts;
    facts.push_back({.name = "offset", .value = at & mask_});
    facts.push_back({.name = "size", .value = size});
    facts.push_back({.name = "busy", .value = (word & kBusy) != 0});
    facts.push_back({.name = "discarded", .value = (word & kDiscarded) != 0});
    facts.push_back({.name = "value", .value = value ? FactValue(*std::move(value)) : FactValue()});
    builder_.set_facts(record, std::move(facts));
    return at + whole;
  }

  Result<std::string> hex_at(std::uint64_t at, std::uint64_t size) {
    std::string text;
    for (std::uint64_t done = 0; done < size;) {
      const std::size_t now = std::min<std::uint64_t>({size - done, kContentStepBytes});
      const auto piece = bytes_at(at + done, now);
      if (!piece) return std::unexpected(piece.error());
      append_hex(text, *piece);
      done += now;
    }
    return text;
  }

  /// From what has been read, else reads on from there as far as there are records. Holds until the
  /// next call.
  Result<ByteSpan> bytes_at(std::uint64_t at, std::size_t size) {
    if (at - window_at_ > window_.size() || size > window_.size() - (at - window_at_)) {
      GS_CHECK(read_window(
          at, size,
          std::max<std::uint64_t>(size, std::min<std::uint64_t>(kContentStepBytes, end_ - at))));
    }
    return ByteSpan(window_).subspan(at - window_at_, size);
  }

  /// `wanted` bytes, or fewer when pages are missing, but not fewer than `needed`.
  Result<void> read_window(std::uint64_t at, std::size_t needed, std::size_t wanted) {
    window_.assign(wanted, std::byte{0});
    window_at_ = at;
    std::size_t readable = wanted;
    std::optional<Error> first_error;
    const std::size_t to_end = std::min<std::uint64_t>(wanted, mask_ + 1 - (at & mask_));
    const auto read = [&](GuestVirt from, std::size_t offset, std::size_t size) {
      const auto failed = [&](std::size_t where, std::size_t, Error error) {
        if (offset + where >= readable) return;
        readable = offset + where;
        first_error = std::move(error);
      };
      read_pages(context_.memory, from, std::span(window_).subspan(offset, size), failed);
    };
    read(data_.wrapping_add(at & mask_), 0, to_end);
    if (to_end < wanted) read(data_, to_end, wanted - to_end);
    window_.resize(readable);
    if (needed > readable) return std::unexpected(*std::move(first_error));
    return {};
  }

  void report(std::uint64_t at, const char* what) {
    builder_.problems().add("entries", {.code = ErrorCode::kCorrupt,
                                        .message = what,
                                        .path = {},
                                        .address = data_.value() + (at & mask_)});
  }

  MapReadContext& context_;
  const MapInfo& map_;
  ContentsBuilder& builder_;
  std::uint64_t mask_ = 0;
  GuestVirt data_;
  std::uint64_t begin_ = 0;
  std::uint64_t end_ = 0;
  Bytes window_;
  std::uint64_t window_at_ = 0;
};

Result<void> list_records(MapReadContext& context, const MapInfo& map, ContentsBuilder& builder) {
  return RingReader(context, map, builder).list();
}

}  // namespace

std::span<const MapReader> ring_readers() {
  static constexpr MapReader kReaders[] = {
      {.type = "ringbuf", .list = list_records, .find = nullptr},
      {.type = "user_ringbuf", .list = list_records, .find = nullptr}};
  return kReaders;
}

}  // namespace guestscope
