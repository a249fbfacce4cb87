#include "daemon/answer.h"

namespace guestscope {

namespace {

struct HttpProblem {
  int status;
  std::string_view code;
  std::string_view title;
};

HttpProblem http_problem(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return {400, "invalid_request", "The request is not valid"};
    case ErrorCode::kNotFound: return {404, "not_found", "There is no such thing"};
    case ErrorCode::kAmbiguous: return {409, "ambiguous_name", "Several things have this name"};
    case ErrorCode::kNotReady:
    case ErrorCode::kUnsupported:
    case ErrorCode::kMismatch: return {503, "not_ready", "The guest's kernel cannot be read (yet)"};
    case ErrorCode::kUnreachable:
      return {503, "guest_unreachable", "No connection to the guest's stub"};
    case ErrorCode::kTimeout: return {504, "timeout", "The guest did not answer in time"};
    case ErrorCode::kBusy: return {503, "busy", "Too many requests at once"};
    case ErrorCode::kProtocol:
    case ErrorCode::kNotMapped:
    case ErrorCode::kNotRam:
    case ErrorCode::kCorrupt:
    case ErrorCode::kSystem: return {502, "guest_fault", "The guest's memory could not be read"};
  }
  return {502, "guest_fault", "The guest's memory could not be read"};
}

}  // namespace

Answer problem_answer(int status, std::string_view code, std::string_view title,
                      const std::string& detail, const Json& extra) {
  Json json = {{"status", status}, {"title", title}, {"detail", detail}, {"code", code}};
  json.update(extra);
  return {.status = status, .content_type = "application/problem+json", .body = dump_json(json)};
}

Answer problem_answer(const Error& error, const Json& extra) {
  const HttpProblem problem = http_problem(error.code);
  Answer answer =
      problem_answer(problem.status, problem.code, problem.title, error.to_string(), extra);
  if (problem.status == 503 && is_transient(error.code)) answer.retry_after = 1;
  return answer;
}

}  // namespace guestscope
