#include "introspect/decompress.h"

#include <archive.h>

#include <algorithm>
#include <array>
#include <memory>

namespace guestscope {
namespace {

struct Format {
  Compression compression;
  std::string_view name;
  std::string_view magic;
  int (*support)(archive*);
};

constexpr std::array kFormats = {
    Format{Compression::kGzip, "gzip", "\x1f\x8b\x08", archive_read_support_filter_gzip},
    Format{Compression::kBzip2, "bzip2", "BZh", archive_read_support_filter_bzip2},
    Format{Compression::kXz,
           "xz",
           {"\xfd"
            "7zXZ\0",
            6},
           archive_read_support_filter_xz},
    Format{Compression::kLzma, "lzma", {"\x5d\0\0", 3}, archive_read_support_filter_lzma},
    Format{Compression::kZstd, "zstd", "\x28\xb5\x2f\xfd", archive_read_support_filter_zstd},
    Format{Compression::kLz4, "lz4", "\x04\x22\x4d\x18", archive_read_support_filter_lz4},
    Format{Compression::kLz4, "lz4", "\x02\x21\x4c\x18", archive_read_support_filter_lz4},
    Format{Compression::kLzo, "lzo", "\x89LZO", nullptr},
};

struct FreeArchive {
  void operator()(archive* handle) const { archive_read_free(handle); }
};

std::string_view reason(archive* handle) {
  const char* text = archive_error_string(handle);
  return text == nullptr ? "unknown" : text;
}

}  // namespace

std::string_view to_string(Compression compression) {
  for (const Format& format : kFormats)
    if (format.compression == compression) return format.name;
  return "none";
}

Compression compression_of(ByteSpan bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Format& format : kFormats)
    if (text.starts_with(format.magic)) return format.compression;
  return Compression::kNone;
}

Result<Bytes> decompress(ByteSpan stream, Compression compression, std::size_t expected,
                         std::size_t limit) {
  const auto format = std::ranges::find(kFormats, compression, &Format::compression);
  if (format == kFormats.end() || format->support == nullptr)
    return fail(ErrorCode::kUnsupported, "its compression ({}) is not supported",
                to_string(compression));
  const std::unique_ptr<archive, FreeArchive> handle(archive_read_new());
  archive_entry* entry = nullptr;
  if (handle == nullptr || format->support(handle.get()) < ARCHIVE_WARN ||
      archive_read_support_format_raw(handle.get()) != ARCHIVE_OK)
    return fail(ErrorCode::kSystem, "libarchive cannot read {}", format->name);
  if (archive_read_open_memory(handle.get(), stream.data(), stream.size()) != ARCHIVE_OK ||
      archive_read_next_header(handle.get(), &entry) != ARCHIVE_OK)
    return fail(ErrorCode::kCorrupt, "its {} stream is damaged: {}", format->name,
                reason(handle.get()));
  // libarchive passes bytes that it does not recognise on as they are; two streams of one format
  // inside each other it unpacks both.
  if (archive_filter_count(handle.get()) < 2)
    return fail(ErrorCode::kCorrupt, "its {} stream is damaged", format->name);

  Bytes bytes;
  constexpr std::size_t kStep = 1U << 20;
  bytes.reserve(std::min(expected + kStep, limit));
  for (std::size_t size = 0;;) {
    if (size == limit)
      return fail(ErrorCode::kUnsupported, "it unpacks to {} MB or more", limit >> 20);
    bytes.resize(std::min(size + kStep, limit));
    const la_ssize_t got = archive_read_data(handle.get(), &bytes[size], bytes.size() - size);
    if (got < 0)
      return fail(ErrorCode::kCorrupt, "its {} stream is truncated or damaged: {}", format->name,
                  reason(handle.get()));
    size += static_cast<std::size_t>(got);
    bytes.resize(size);
    if (got == 0) return bytes;
  }
}

}  // namespace guestscope
