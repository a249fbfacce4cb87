// Result<T> and Error: how everything in guestscope fails.
//
// Own code does not throw. A function that can fail returns Result<T>: a value, or an Error that
// carries a code (what the caller can do about it), a message (what happened) and, where known, a
// field path and a guest address (where).
//
//   Result<int> parse(std::string_view text) {
//     if (text.empty()) return fail(ErrorCode::kInvalidArgument, "empty number");
//     GS_ASSIGN(const int digits, count_digits(text));   // declares `digits`, or returns
//     count_digits' error GS_CHECK(validate(digits));                         // for Result<void>
//     return digits;
//   }
//
// Threads: plain values without sharing.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace guestscope {

/// What went wrong, as seen by the one who has to act on it. Few on purpose: each has one action.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  ///< the user's or caller's input is wrong: correct it
  kNotFound,         ///< no such thing (a map, a path, a CPU): ask for another
  kAmbiguous,        ///< several things match: be more precise
  kNotReady,         ///< not there yet (the guest is still booting): try again
  kUnreachable,      ///< no connection to the stub, or it was lost: reconnect
  kTimeout,          ///< the peer did not answer in time
  kProtocol,         ///< the peer's answer makes no sense: give up this connection
  kNotMapped,        ///< the guest address has no page behind it
  kNotRam,           ///< the physical address is not RAM, and is therefore never read
  kCorrupt,          ///< guest memory contradicts itself (cycle, absurd size, bad index)
  kUnsupported,      ///< this kernel, stub or file lacks what is needed: permanent
  kMismatch,         ///< the kernel file is not the guest's: permanent until the guest reboots
  kBusy,             ///< too much asked for at once: try again later
  kSystem,           ///< the host's operating system refused (the message has its reason)
};

/// The code's name as logs and tests print it ("not_mapped").
std::string_view to_string(ErrorCode code);

/// True when waiting can help: the same attempt may succeed later without anybody changing an
/// input.
bool is_transient(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kSystem;
  std::string message;
  std::string path{};  ///< field path, e.g. "bpf_map.btf.data"; empty when not about a field
  std::optional<std::uint64_t>
      address{};  ///< guest address (virtual or physical, as the message says)

  /// "bpf_map.btf at 0xffff888003a41000: page not present (level 2)".
  std::string to_string() const;

  /// This error, seen from the structure that contains the field: "map" + "name" -> "map.name".
  Error within(std::string_view parent) const&;
  Error within(std::string_view parent) &&;
};

template <typename T>
using Result = std::expected<T, Error>;

/// `return fail(code, "no symbol {}", name);`
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format,
                                          Args&&... args) {
  return std::unexpected(
      Error{.code = code, .message = fmt::format(format, std::forward<Args>(args)...)});
}

/// The same with the guest address that it is about.
template <typename... Args>
[[nodiscard]] std::unexpected<Error> fail_at(std::uint64_t address, ErrorCode code,
                                             fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(Error{.code = code,
                               .message = fmt::format(format, std::forward<Args>(args)...),
                               .path = {},
                               .address = address});
}

}  // namespace guestscope

#define GS_CONCAT_INNER(a, b) a##b
#define GS_CONCAT(a, b) GS_CONCAT_INNER(a, b)

/// Declares (or assigns) `target` from a Result, or returns its error from the enclosing function.
#define GS_ASSIGN(target, expression) \
  GS_ASSIGN_INNER(GS_CONCAT(gs_result_, __LINE__), target, expression)
#define GS_ASSIGN_INNER(result, target, expression)               \
  auto result = (expression);                                     \
  if (!result) return std::unexpected(std::move(result).error()); \
  target = std::move(result).value()

/// Returns the error of a Result<void> (or of any Result whose value is not wanted) from the
/// enclosing function.
#define GS_CHECK(expression)                               \
  do {                                                     \
    if (auto gs_check = (expression); !gs_check)           \
      return std::unexpected(std::move(gs_check).error()); \
  } while (false)
