#include "daemon/api.h"

#include <charconv>

#include "daemon/guest_json.h"

namespace guestscope {

namespace {

using Handler = Answer (*)(GuestSession&, const Request&);

struct Route {
  std::string_view name;
  std::size_t max_segments;
  Handler handler;
};

Answer answer_health(GuestSession& /*session*/, const Request& request) {
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  return json_answer({{"status", "ok"}}, false);
}

constexpr Route kRoutes[] = {
    {"maps", 2, answer_maps},     {"progs", 2, answer_progs},   {"runqueues", 2, answer_run_queues},
    {"status", 1, answer_status}, {"readyz", 1, answer_status}, {"healthz", 1, answer_health}};

Error no_such_path(const Request& request) {
  std::string path;
  for (const std::string& segment : request.path) path += "/" + segment;
  return {.code = ErrorCode::kNotFound,
          .message = fmt::format(
              "no path {}: there are /status, /healthz, /readyz, /maps, /maps/REF, /progs, "
              "/progs/REF, /runqueues, /runqueues/CPU, /guests and /guests/NAME/…",
              path)};
}

Answer route_guest(GuestSession& session, const Request& request) {
  for (const Route& route : kRoutes)
    if (!request.path.empty() && request.path[0] == route.name &&
        request.path.size() <= route.max_segments)
      return route.handler(session, request);
  return problem_answer(no_such_path(request));
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Answer json_answer(const Json& json, bool pretty, int status) {
  return {.status = status, .body = dump_json(json, pretty ? 2 : -1) + "\n"};
}

Answer snapshot_problem(const Error& error, const GuestSession& session,
                        std::string_view accessor) {
  const bool not_ready = error.code == ErrorCode::kNotReady ||
                         error.code == ErrorCode::kUnsupported ||
                         error.code == ErrorCode::kMismatch;
  Answer answer = problem_answer(error);
  if (!not_ready) return answer;
  const KernelSummary kernel = session.status().kernel;
  const AccessorStatus& status = accessor == "maps"    ? kernel.maps
                                 : accessor == "progs" ? kernel.progs
                                                       : kernel.per_cpu;
  Json body = Json::parse(answer.body);
  body["accessor"] = accessor;
  body.update(accessor_json(status));
  answer.body = dump_json(body);
  return answer;
}

Answer answer_status(GuestSession& session, const Request& request) {
  const auto pretty = request.flag("pretty");
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  if (!pretty) return problem_answer(pretty.error());
  // A kernel that was ready may have rebooted since anybody looked. One that was not is looked at
  // all the time.
  if (session.status().kernel.ready())
    (void)session.snapshot(
        "status", [](GuestKernel&, PhysMemory&) -> Result<bool> { return true; }, kSnapshotTimeout);
  const GuestStatus status = session.status();
  const bool ready = status.connection == ConnectionState::kConnected && status.kernel.ready();
  Answer answer = json_answer(status_json(session.config(), status, session.model()), *pretty,
                              request.path[0] == "readyz" && !ready ? 503 : 200);
  if (answer.status == 503) answer.retry_after = 1;
  return answer;
}

Answer Api::guests() const {
  Json list = Json::array();
  for (const GuestSession* session : sessions_) {
    Json status = status_json(session->config(), session->status(), session->model());
    list.push_back(std::move(status["guest"]));
  }
  return json_answer({{"guests", std::move(list)}}, false);
}

Answer Api::route(const Request& request) const {
  if (request.path[0] != "guests") return route_guest(*sessions_.front(), request);
  if (request.path.size() == 1) return guests();
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
