// The limits of introspect/: how far any walk over input from outside may go.
//
// Each is far above what a real kernel reaches and low enough that hostile input costs milliseconds
// and not minutes. Walks that reach one fail with kCorrupt, or say what they left out.
#pragma once

#include <cstddef>
#include <cstdint>

namespace guestscope {

// --- kernel files ---

/// Sections of a kernel file. A real one has about 80; -ffunction-sections builds stay below this.
inline constexpr std::size_t kMaxElfSections = 65536;
/// A note section that is searched for the build id. Real ones have a few hundred bytes.
inline constexpr std::size_t kMaxNoteBytes = 1U << 20;
/// linux_banner: about 200 bytes.
inline constexpr std::size_t kMaxBannerBytes = 1024;

// --- types ---

/// BTF in one piece. A distribution kernel's has 4 to 8 MB; what programs load is limited to 16 MB.
inline constexpr std::size_t kMaxBtfBytes = 256U << 20;
/// Modifiers (typedef, const, …) in front of one type. The kernel accepts 32.
inline constexpr unsigned kMaxModifiers = 64;
/// Nesting of arrays, structures and anonymous members.
inline constexpr unsigned kMaxTypeDepth = 64;
/// Members looked at while one field path is searched: anonymous members can fan out.
inline constexpr std::size_t kMaxMemberSteps = 1U << 20;
/// Structures that share a name and are tried for one layout.
inline constexpr std::size_t kMaxLayoutCandidates = 64;

// --- values ---

/// Steps (members, elements, enumerators compared) of printing one value: a base, and so many for
/// each of its bytes. Unions repeat the same bytes and could do so exponentially.
inline constexpr std::uint64_t kValueStepsBase = 1U << 20;
inline constexpr std::uint64_t kValueStepsPerByte = 64;

}  // namespace guestscope
