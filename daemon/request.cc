#include "daemon/request.h"

#include <algorithm>
#include <charconv>

namespace guestscope {

namespace {

Result<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2)
      return fail(ErrorCode::kInvalidArgument, "bad percent-encoding in '{}'", text);
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

/// Calls `each(part)` for the parts of `text` between `separator`s, until one fails.
template <typename Each>
Result<void> split(std::string_view text, char separator, Each each) {
  while (true) {
    const std::size_t end = text.find(separator);
    GS_CHECK(each(text.substr(0, end)));
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
}

}  // namespace

Result<Request> Request::parse(std::string_view target) {
  target = target.substr(0, target.find('#'));
  if (!target.starts_with('/'))
    return fail(ErrorCode::kInvalidArgument, "path '{}' does not begin with '/'", target);
  Request request{.target = std::string(target), .path = {}, .query = {}};
  const std::size_t mark = target.find('?');
  GS_CHECK(split(target.substr(1, mark == target.npos ? mark : mark - 1), '/',
                 [&](std::string_view part) -> Result<void> {
                   GS_ASSIGN(std::string segment, percent_decoded(part));
                   request.path.push_back(std::move(segment));
                   return {};
                 }));
  if (mark == target.npos || mark + 1 == target.size()) return request;
  GS_CHECK(split(target.substr(mark + 1), '&', [&](std::string_view part) -> Result<void> {
    const std::size_t equals = part.find('=');
    GS_ASSIGN(std::string name, percent_decoded(part.substr(0, equals)));
    GS_ASSIGN(std::string value,
              percent_decoded(equals == part.npos ? std::string_view() : part.substr(equals + 1)));
    if (!request.query.emplace(name, std::move(value)).second)
      return fail(ErrorCode::kInvalidArgument, "parameter '{}' is given twice", name);
    return {};
  }));
  return request;
}

Result<void> Request::allow_only(std::initializer_list<std::string_view> known) const {
  for (const auto& [name, value] : query)
    if (std::ranges::find(known, name) == known.end())
      return fail(ErrorCode::kInvalidArgument, "this path has no parameter '{}'", name);
  return {};
}

Result<bool> Request::flag(const std::string& name) const {
  const auto found = query.find(name);
  if (found == query.end() || found->second == "0" || found->second == "false") return false;
  if (found->second.empty() || found->second == "1" || found->second == "true") return true;
  return fail(ErrorCode::kInvalidArgument, "parameter '{}' is on or off, not '{}'", name,
              found->second);
}

}  // namespace guestscope
