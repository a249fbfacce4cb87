// Decompression of one stream, told by its first bytes.
//
// Threads: any; nothing is shared. Pure computation: 0.1 to 1 s for a kernel. Fails when the stream
// is damaged or cut off, and when it unpacks to more than was allowed. Only filters that libarchive
// has built in are used: it would start a program for others.
// Source of truth: the formats' own magic numbers, as scripts/extract-vmlinux of Linux lists them.
#pragma once

#include <cstddef>
#include <string_view>

#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

enum class Compression : std::uint8_t { kNone, kGzip, kBzip2, kXz, kLzma, kZstd, kLz4, kLzo };

/// "gzip", …; "none".
std::string_view to_string(Compression compression);
Compression compression_of(ByteSpan bytes);

/// `expected`: about how large the result will be; 0 when unknown. Bytes behind the end of the
/// stream are ignored, except by LZ4's legacy format, which knows no end.
/// Messages say what is wrong and not with which file.
Result<Bytes> decompress(ByteSpan stream, Compression compression, std::size_t expected,
                         std::size_t limit);

}  // namespace guestscope
