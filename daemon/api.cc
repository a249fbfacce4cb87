#include "daemon/api.h"

#include <charconv>

#include "daemon/guest_json.h"

namespace guestscope {

namespace {

// Behind a long snapshot, /status says what it knows.
constexpr std::chrono::seconds kStatusTimeout{2};

using Handler = Answer (*)(const GuestView&, const Request&);

struct Route {
  std::string_view name;
  std::size_t max_segments;
  Handler handler;
  bool reads_guest = true;  ///< so that ?consistency= says how
};

Answer answer_health(const GuestView& /*session*/, const Request& request) {
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  return json_answer({{"status", "ok"}}, false);
}

constexpr Route kRoutes[] = {{"maps", 2, answer_maps},
                             {"progs", 3, answer_progs},
                             {"links", 2, answer_links},
                             {"btf", 3, answer_btf},
                             {"runqueues", 2, answer_run_queues},
                             {"tasks", 2, answer_tasks},
                             {"verdict", 1, answer_verdict},
                             {"scx", 1, answer_scx},
                             {"topology", 1, answer_topology},
                             {"stats", 1, answer_stats},
                             {"status", 1, answer_status, false},
                             {"readyz", 1, answer_status, false},
                             {"healthz", 1, answer_health, false}};

Error no_such_path(const Request& request) {
  std::string path;
  for (const std::string& segment : request.path) path += "/" + segment;
  return {.code = ErrorCode::kNotFound,
          .message = fmt::format(
              "no path {}: there are /status, /healthz, /readyz, /maps, /maps/REF, /progs, "
              "/progs/REF, /progs/REF/xlated, /progs/REF/jited, /links, /links/REF, /btf, "
              "/btf/REF, /btf/REF/raw, /runqueues, /runqueues/CPU, /tasks, /tasks/PID, /verdict, "
              "/scx, /topology, /stats, /guests and /guests/NAME/…",
              path)};
}

/// Takes ?consistency= out of the query: it means the same on every path.
Result<Consistency> take_consistency(Request& request) {
  const auto given = request.query.extract("consistency");
  if (given.empty() || given.mapped() == "paused") return Consistency::kPaused;
  if (given.mapped() == "live") return Consistency::kLive;
  return fail(ErrorCode::kInvalidArgument, "consistency is paused or live, not '{}'",
              given.mapped());
}

Answer route_guest(GuestSession& session, Request request) {
  if (request.path.size() >= 2 && request.path.back().empty())
    return problem_answer(no_such_path(request));
  for (const Route& route : kRoutes)
    if (!request.path.empty() && request.path[0] == route.name &&
        request.path.size() <= route.max_segments) {
      if (!route.reads_guest)
        return route.handler(GuestView(session, Consistency::kPaused), request);
      const auto consistency = take_consistency(request);
      if (!consistency) return problem_answer(consistency.error());
      return route.handler(GuestView(session, *consistency), request);
    }
  return problem_answer(no_such_path(request));
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Answer none_answer(std::string_view kind, const std::string& ref, const Problems& problems) {
  if (problems.empty())
    return problem_answer({.code = ErrorCode::kNotFound,
                           .message = fmt::format("no {} with id or name '{}'", kind, ref)});
  const Problem& first = problems.list().front();
  return problem_answer(502, "guest_fault", "The guest's memory could not be read",
                        fmt::format("no {} '{}' among those that could be read; {}: {}", kind, ref,
                                    first.at, first.error.to_string()));
}

Answer ambiguous_answer(std::string_view kinds, const std::string& ref,
                        const std::vector<std::uint64_t>& ids) {
  return problem_answer(
      409, "ambiguous_name", "Several things have this name",
      fmt::format("{} {} are named '{}': ask for one by its id", ids.size(), kinds, ref),
      {{"ids", ids}});
}

Answer json_answer(const Json& json, bool pretty, int status) {
  return {.status = status, .body = dump_json(json, pretty ? 2 : -1) + "\n"};
}

Answer text_answer(std::string text, bool pretty) {
  if (pretty) text = dump_json(Json::parse(text), 2) + "\n";
  return {.body = std::move(text)};
}

Answer bytes_answer(ByteSpan bytes) {
  return {.content_type = "application/octet-stream",
          .body = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())};
}

Answer snapshot_problem(const Error& error, const GuestView& session, std::string_view accessor) {
  const bool not_ready = error.code == ErrorCode::kNotReady ||
                         error.code == ErrorCode::kUnsupported ||
                         error.code == ErrorCode::kMismatch;
  if (!not_ready) return problem_answer(error);
  const KernelSummary kernel = session.status().kernel;
  const AccessorStatus* status = accessor == "maps"    ? &kernel.maps
                                 : accessor == "progs" ? &kernel.progs
                                                       : &kernel.per_cpu;
  if (status->state == AccessorState::kReady) {  // then it was the one that it needs besides
    accessor = "per_cpu_offsets";
    status = &kernel.per_cpu;
  }
  if (status->state == AccessorState::kReady) return problem_answer(error);
  Json extra = {{"accessor", accessor}};
  extra.update(accessor_json(*status));
  return problem_answer(error, extra);
}

Answer answer_status(const GuestView& session, const Request& request) {
  const auto pretty = request.flag("pretty");
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  if (!pretty) return problem_answer(pretty.error());
  // While some accessor waits, the guest is looked at all the time. Otherwise nobody may have
  // looked since it rebooted.
  if (session.status().kernel.settled())
    (void)session.snapshot(
        "status", [](GuestKernel&, PhysMemory&) -> Result<bool> { return true; }, kStatusTimeout);
  const GuestStatus status = session.status();
  const bool ready = status.connection == ConnectionState::kConnected && status.kernel.ready();
  Answer answer = json_answer(status_json(session.config(), status), *pretty,
                              request.path[0] == "readyz" && !ready ? 503 : 200);
  if (answer.status == 503) answer.retry_after = 1;
  return answer;
}

Answer Api::guests(const Request& request) const {
  const auto pretty = request.flag("pretty");
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  if (!pretty) return problem_answer(pretty.error());
  Json list = Json::array();
  for (const GuestSession* session : sessions_) {
    Json status = status_json(session->config(), session->status());
    list.push_back(std::move(status["guest"]));
  }
  return json_answer({{"guests", std::move(list)}}, *pretty);
}

Answer Api::route(const Request& request) const {
  if (request.path[0] != "guests") return route_guest(*sessions_.front(), request);
  if (request.path.size() == 1) return guests(request);
  for (GuestSession* session : sessions_) {
    if (session->config().name != request.path[1]) continue;
    Request rest = request;
    rest.path.erase(rest.path.begin(), rest.path.begin() + 2);
    return route_guest(*session, rest);
  }
  return problem_answer(
      {.code = ErrorCode::kNotFound, .message = fmt::format("no guest '{}'", request.path[1])});
}

Answer Api::answer(std::string_view target) const {
  try {
    const auto request = Request::parse(target);
    return request ? route(*request) : problem_answer(request.error());
  } catch (const std::exception& error) {
    // Libraries throw (JSON, allocation); an answer is owed all the same.
    return problem_answer(500, "internal", "guestscope failed", error.what());
  }
}

}  // namespace guestscope
