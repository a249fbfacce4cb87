#include "arch/result.h"

namespace guestscope {

std::string_view to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid_argument";
    case ErrorCode::kNotFound: return "not_found";
    case ErrorCode::kAmbiguous: return "ambiguous";
    case ErrorCode::kNotReady: return "not_ready";
    case ErrorCode::kUnreachable: return "unreachable";
    case ErrorCode::kTimeout: return "timeout";
    case ErrorCode::kProtocol: return "protocol";
    case ErrorCode::kNotMapped: return "not_mapped";
    case ErrorCode::kNotRam: return "not_ram";
    case ErrorCode::kCorrupt: return "corrupt";
    case ErrorCode::kUnsupported: return "unsupported";
    case ErrorCode::kMismatch: return "mismatch";
    case ErrorCode::kBusy: return "busy";
    case ErrorCode::kSystem: return "system";
  }
  return "unknown";
}

bool is_transient(ErrorCode code) {
  return code != ErrorCode::kUnsupported && code != ErrorCode::kMismatch &&
         code != ErrorCode::kInvalidArgument;
}

std::string Error::to_string() const {
  std::string text = path;
  if (address) text += fmt::format("{}at {:#018x}", text.empty() ? "" : " ", *address);
  if (!text.empty()) text += ": ";
  return text + message;
}

Error Error::within(std::string_view parent) const& { return Error(*this).within(parent); }

Error Error::within(std::string_view parent) && {
  path = path.empty() ? std::string(parent) : fmt::format("{}.{}", parent, path);
  return std::move(*this);
}

}  // namespace guestscope
