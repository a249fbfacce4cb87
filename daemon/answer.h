// Answer: what a path answers, before anybody knows whether it goes over HTTP or to standard
// output.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "arch/result.h"
#include "daemon/json_value.h"

namespace guestscope {

/// Takes a piece of the body; false means that the reader has gone and the rest is not wanted.
using WriteBody = std::function<bool(std::string_view)>;

struct Answer {
  int status = 200;
  std::string content_type = "application/json";
  std::optional<int> retry_after{};  ///< seconds
  bool allow_get_only = false;       ///< the Allow header of 405
  std::string body{};
  /// Instead of `body`, for answers that may be large: called once, writes the body piece by piece.
  std::function<void(const WriteBody&)> stream{};
};

/// A problem document (RFC 9457) with our `code`; `extra` members are added to it.
Answer problem_answer(int status, std::string_view code, std::string_view title,
                      const std::string& detail, const Json& extra = Json::object());

/// The problem that an Error makes: its code decides status and `code`.
Answer problem_answer(const Error& error, const Json& extra = Json::object());

}  // namespace guestscope
