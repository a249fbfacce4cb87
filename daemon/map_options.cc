#include "daemon/map_options.h"

#include <array>
#include <charconv>

#include "daemon/api.h"
#include "daemon/bpftool_json.h"

namespace guestscope {

namespace {

std::optional<std::string> asked(const Request& request, const std::string& name) {
  const auto found = request.query.find(name);
  return found == request.query.end() ? std::nullopt : std::optional(found->second);
}

Result<std::optional<std::uint64_t>> number(const Request& request, const std::string& name,
                                            std::uint64_t least, std::uint64_t most) {
  const auto text = asked(request, name);
  if (!text) return std::nullopt;
  const auto value = parse_number(*text);
  if (!value || *value < least || *value > most)
    return fail(ErrorCode::kInvalidArgument, "parameter {}: '{}' is no number from {} to {}", name,
                *text, least, most);
  return value;
}

Result<void> check_combinations(const Request& request) {
  const auto both = [&](const char* one, const char* other) {
    return request.query.contains(one) && request.query.contains(other);
  };
  for (const auto& [one, other] :
       {std::pair("key", "key_hex"), std::pair("key", "limit"), std::pair("key", "cursor"),
        std::pair("key_hex", "limit"), std::pair("key_hex", "cursor"),
        std::pair("format", "contents"), std::pair("format", "limit"),
        std::pair("format", "cursor"), std::pair("format", "cpu"), std::pair("format", "raw")})
    if (both(one, other))
      return fail(ErrorCode::kInvalidArgument, "parameters {} and {} exclude each other", one,
                  other);
  return {};
}

}  // namespace

Result<MapOptions> parse_map_options(const Request& request) {
  const bool one = request.path.size() == 2;
  GS_CHECK(one ? request.allow_only(
                     {"pretty", "raw", "limit", "cursor", "key", "key_hex", "cpu", "format"})
               : request.allow_only({"pretty", "raw", "contents", "name", "type", "format"}));
  MapOptions options;
  GS_ASSIGN(options.pretty, request.flag("pretty"));
  GS_ASSIGN(options.entries.raw, request.flag("raw"));
  GS_ASSIGN(options.contents, request.flag("contents"));
  GS_ASSIGN(options.bpftool, wants_bpftool(request));
  options.name = asked(request, "name");
  options.type = asked(request, "type");
  GS_ASSIGN(options.limit, number(request, "limit", 1, 1'000'000'000));
  GS_ASSIGN(const auto cpu, number(request, "cpu", 0, kMaxCpus - 1));
  if (cpu) options.entries.cpu = static_cast<unsigned>(*cpu);
  options.cursor = asked(request, "cursor");
  options.key = asked(request, "key");
  if (const auto hex = asked(request, "key_hex")) {
    options.key = hex;
    options.key_is_hex = true;
  }
  GS_CHECK(check_combinations(request));
  return options;
}

std::string cursor_text(std::uint64_t map_id, const MapCursor& cursor) {
  return fmt::format("{:x}-{:x}-{:x}", map_id, cursor.position, cursor.after);
}

Result<MapCursor> parse_cursor(std::string_view text, std::uint64_t map_id) {
  std::array<std::uint64_t, 3> numbers{};
  const char* at = text.data();
  const char* const end = at + text.size();
  bool good = true;
  for (std::size_t i = 0; good && i < numbers.size(); ++i) {
    const auto [next, error] = std::from_chars(at, end, numbers[i], 16);
    good = error == std::errc{} && (i == 2 ? next == end : next != end && *next == '-');
    at = next + 1;
  }
  if (!good)
    return fail(ErrorCode::kInvalidArgument,
                "'{}' is no cursor: pass what the answer before gave as next", text);
  if (numbers[0] != map_id)
    return fail(ErrorCode::kInvalidArgument, "the cursor '{}' is of map {}, and not of map {}",
                text, numbers[0], map_id);
  return MapCursor{.position = numbers[1], .after = numbers[2]};
}

}  // namespace guestscope
