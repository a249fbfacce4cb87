// What the stub side may cost us, whatever the peer sends.
#pragma once

#include <cstddef>
#include <cstdint>

namespace guestscope::gdb {

/// A packet's payload after escapes and run lengths. QEMU's PacketSize is 4096.
inline constexpr std::size_t kMaxPayload = 64 * 1024;
/// gdb's assumption for a stub that names no PacketSize; one below the minimum is not believed.
inline constexpr std::size_t kDefaultPacketSize = 400;
inline constexpr std::size_t kMinPacketSize = 64;
/// Text of one monitor command; `info mtree -f` of a large machine is some 100 KiB.
inline constexpr std::size_t kMaxMonitorText = std::size_t{8} * 1024 * 1024;
/// A document of the target description; QEMU's largest (arm64 system registers) is some 50 KiB.
inline constexpr std::size_t kMaxDocument = std::size_t{1} * 1024 * 1024;
inline constexpr std::size_t kMaxDocuments = 64;
inline constexpr std::size_t kMaxDocumentDepth = 8;
inline constexpr std::size_t kMaxXmlDepth = 64;
inline constexpr std::size_t kMaxRegisters = 8192;
inline constexpr std::uint64_t kMaxRegisterNumber = 1'000'000;
inline constexpr std::uint64_t kMaxRegisterBits = 8 * kMaxPayload;
inline constexpr std::size_t kMaxThreads = 8192;
inline constexpr std::size_t kMaxRamBlocks = 65536;
/// Unsent packets are made up to this size, then written, then made again.
inline constexpr std::size_t kWriteChunk = 64 * 1024;
inline constexpr std::size_t kReadChunk = 256 * 1024;
/// Reads that lie at most so far apart become one, when the gap is RAM of the same block.
/// Measured: see README.md.
inline constexpr std::uint64_t kCoalesceGap = 1024;

}  // namespace guestscope::gdb
