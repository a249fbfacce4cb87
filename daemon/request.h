// Request: a path with its query, taken apart and decoded once for all users.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/result.h"

namespace guestscope {

struct Request {
  std::string target;             ///< as it was given
  std::vector<std::string> path;  ///< segments, percent-decoded
  std::map<std::string, std::string>
      query;  ///< percent-decoded; a parameter without '=' has an empty value

  /// kInvalidArgument for bad percent-encoding, a parameter given twice, or a path that does not
  /// begin with '/'.
  static Result<Request> parse(std::string_view target);

  /// kInvalidArgument, naming the first parameter that is not among `known`.
  Result<void> allow_only(std::initializer_list<std::string_view> known) const;
  /// A switch: "?raw", "?raw=1", "?raw=true"; off with 0 or false. kInvalidArgument for any other
  /// value.
  Result<bool> flag(const std::string& name) const;
};

}  // namespace guestscope
