#include "introspect/kernel_payload.h"

#include <elf.h>

#include <optional>
#include <utility>

#include "introspect/decompress.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

bool has_at(ByteSpan bytes, std::size_t offset, std::string_view magic) {
  const auto found = ByteReader(bytes).bytes(offset, magic.size());
  return found &&
         std::string_view(reinterpret_cast<const char*>(found->data()), magic.size()) == magic;
}

// A compressed piece of a file, and what the file says of it.
struct Packed {
  ByteSpan stream;
  std::size_t size = 0;  // unpacked; 0: not told
  bool exact = false;    // `size` is that, to the byte
  std::string_view container{};
};

class Unwrapper {
 public:
  explicit Unwrapper(const std::string& path) : path_(path) {}

  Result<KernelPayload> run(Bytes bytes) const {
    for (unsigned depth = 0; depth <= kMaxKernelWrappings; ++depth) {
      if (has_at(bytes, 0, ELFMAG))
        return KernelPayload{.kind = KernelPayload::Kind::kElf, .bytes = std::move(bytes)};
      GS_ASSIGN(const std::optional<Packed> packed, packed_in(bytes));
      if (packed) {
        GS_ASSIGN(Bytes inner, unpack(*packed));
        bytes = std::move(inner);
        continue;
      }
      if (has_at(bytes, 56, "ARM\x64"))
        return KernelPayload{.kind = KernelPayload::Kind::kAarch64Image, .bytes = std::move(bytes)};
      return fail(ErrorCode::kInvalidArgument,
                  "kernel file {} is no kernel: neither an ELF file nor a bzImage, an arm64 Image, "
                  "an EFI zboot image, or one of these compressed",
                  path_);
    }
    return fail(ErrorCode::kUnsupported, "kernel file {} is wrapped more than {} times", path_,
                kMaxKernelWrappings);
  }

 private:
  Result<std::optional<Packed>> packed_in(ByteSpan bytes) const {
    if (has_at(bytes, 0x202, "HdrS")) return in_bz_image(bytes);
    if (has_at(bytes, 0, "MZ") && has_at(bytes, 4, "zimg")) return in_zboot(bytes);
    if (compression_of(bytes) != Compression::kNone) return Packed{.stream = bytes};
    return std::nullopt;
  }

  Result<std::optional<Packed>> in_bz_image(ByteSpan bytes) const {
    struct Header {  // from 0x1f1 on
      std::uint8_t setup_sectors;
      std::array<std::byte, 20> not_needed;
      le16 version;
    };
    struct PayloadHeader {  // from 0x248 on
      le32 offset;
      le32 size;
    };
    constexpr std::uint16_t kHasPayload = 0x208;
    const ByteReader reader(bytes);
    const auto header = reader.get<Header>(0x1f1);
    const auto payload = reader.get<PayloadHeader>(0x248);
    if (!header || !payload) return std::unexpected(truncated());
    if (header->version < kHasPayload)
      return fail(ErrorCode::kUnsupported,
                  "kernel file {} is a bzImage of the old protocol {:#x}, which does not say where "
                  "the kernel is in it; pass its vmlinux",
                  path_, std::uint16_t{header->version});
    const std::size_t sectors = header->setup_sectors == 0 ? 4 : header->setup_sectors;
    const auto stream = reader.bytes((sectors + 1) * 512 + payload->offset, payload->size);
    if (!stream) return std::unexpected(truncated());
    if (compression_of(*stream) == Compression::kNone && !has_at(*stream, 0, ELFMAG))
      return fail(ErrorCode::kUnsupported,
                  "kernel file {} is a bzImage whose compression is unknown; pass its vmlinux",
                  path_);
    return with_size_word(*stream, "bzImage");
  }

  // The size before compression stands in the last 4 bytes: that of gzip's own format, or appended.
  Packed with_size_word(ByteSpan stream, std::string_view container) const {
    Packed packed{.stream = stream, .container = container};
    if (stream.size() < 4) return packed;
    packed.size = load_le(stream.last(4).data(), 4);
    packed.exact = true;
    if (compression_of(stream) != Compression::kGzip)
      packed.stream = stream.first(stream.size() - 4);
    return packed;
  }

  Result<std::optional<Packed>> in_zboot(ByteSpan bytes) const {
    const ByteReader reader(bytes);
    const auto offset = reader.get<le32>(8);
    const auto size = reader.get<le32>(12);
    const auto name = reader.bytes(24, 32);
    if (!offset || !size || !name) return std::unexpected(truncated());
    const auto stream = reader.bytes(*offset, *size);
    if (!stream) return std::unexpected(truncated());
    if (compression_of(*stream) == Compression::kNone)
      return fail(ErrorCode::kUnsupported,
                  "kernel file {} is an EFI zboot image compressed by {}, which is not supported; "
                  "pass its vmlinux",
                  path_, printable(text_in(*name)));
    return Packed{.stream = *stream, .container = "EFI zboot image"};
  }

  Result<Bytes> unpack(const Packed& packed) const {
    const Compression compression = compression_of(packed.stream);
    if (compression == Compression::kNone) return Bytes(packed.stream.begin(), packed.stream.end());
    auto unpacked = decompress(packed.stream, compression, std::min(packed.size, kMaxKernelBytes),
                               kMaxKernelBytes);
    if (!unpacked) {
      Error error = std::move(unpacked).error();
      const bool advice = error.code == ErrorCode::kUnsupported;
      error.message =
          fmt::format("kernel file {}{}{}: {}{}", path_, packed.container.empty() ? "" : " is a ",
                      packed.container, error.message, advice ? "; pass its vmlinux" : "");
      return std::unexpected(std::move(error));
    }
    if (packed.exact && unpacked->size() != packed.size)
      return fail(
          ErrorCode::kCorrupt,
          "kernel file {} is a {}: truncated or damaged: it unpacks to {} bytes and not to {}",
          path_, packed.container, unpacked->size(), packed.size);
    return unpacked;
  }

  Error truncated() const {
    return {.code = ErrorCode::kCorrupt,
            .message = fmt::format("kernel file {} is truncated", path_)};
  }
  static std::string_view printable(std::string_view name) {
    for (const char c : name)
      if (c <= ' ' || c > '~') return "something";
    return name.empty() ? "something" : name;
  }

  const std::string& path_;
};

}  // namespace

Result<KernelPayload> unwrap_kernel(Bytes file, const std::string& path) {
  return Unwrapper(path).run(std::move(file));
}

}  // namespace guestscope
