// /progs, /progs/REF, /progs/REF/xlated and /progs/REF/jited.
#include "daemon/api.h"
#include "daemon/bpftool_json.h"
#include "daemon/bpftool_show.h"
#include "daemon/guest_json.h"
#include "daemon/progs_json.h"
#include "daemon/refs.h"

namespace guestscope {

namespace {

/// By the whole name or by the 15 characters that the kernel keeps.
bool has_name(const ProgInfo& prog, const std::string& name) {
  constexpr std::size_t kKept = 15;
  return prog.name == name || (name.size() == kKept && prog.name.starts_with(name));
}

struct ReadCode {
  ProgList list;
  Result<Bytes> code;
};

/// The bytes as they are: what a file of `bpftool prog dump` holds.
Answer answer_code(const GuestView& session, const Request& request) {
  if (const auto valid = request.allow_only({}); !valid) return problem_answer(valid.error());
  const std::string& ref = request.path[1];
  const ProgCode which = request.path[2] == "jited" ? ProgCode::kJited : ProgCode::kXlated;
  auto taken = session.snapshot(
      fmt::format("prog {} {}", request.path[2], ref),
      [ref, which](GuestKernel& kernel, PhysMemory& memory) -> Result<ReadCode> {
        GS_ASSIGN(ProgList list, kernel.progs(memory));
        keep_ref(list.progs, ref, has_name);
        ReadCode read{.list = std::move(list), .code = {}};
        if (read.list.progs.size() == 1)
          read.code = kernel.prog_code(memory, read.list.progs.front(), which);
        return read;
      },
      kSnapshotTimeout);
  if (!taken) return snapshot_problem(taken.error(), session, "progs");
  const auto& list = taken->value.list;
  if (auto problem = not_one(list.progs, "program", ref, list.problems)) return *std::move(problem);
  if (!taken->value.code) return problem_answer(taken->value.code.error());
  return bytes_answer(*taken->value.code);
}

}  // namespace

Answer answer_progs(const GuestView& session, const Request& request) {
  if (request.path.size() == 3) {
    if (request.path[2] == "xlated" || request.path[2] == "jited")
      return answer_code(session, request);
    return problem_answer({.code = ErrorCode::kNotFound,
                           .message = fmt::format("programs have no '{}': there are /xlated and "
                                                  "/jited",
                                                  request.path[2])});
  }
  const bool one = request.path.size() == 2;
  if (const auto valid = request.allow_only({"pretty", "format"}); !valid)
    return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  const auto bpftool = wants_bpftool(request);
  if (!bpftool) return problem_answer(bpftool.error());
  return answer_by(
      session, request, "progs",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.progs(memory); }, "progs",
      [&](ProgList list, const SnapshotMeta& meta) {
        if (one) {
          keep_ref(list.progs, request.path[1], has_name);
          if (auto problem = not_one(list.progs, "program", request.path[1], list.problems))
            return *std::move(problem);
        }
        if (*bpftool)
          return text_answer(one ? bpftool_prog(list.progs.front()) + "\n"
                                 : bpftool_list(list.progs, bpftool_prog),
                             *pretty);
        Json json = {{"snapshot", snapshot_json(meta)}};
        if (list.stats_enabled) json["stats_enabled"] = *list.stats_enabled;
        if (one) {
          json.update(prog_json(list.progs.front(), true));
        } else {
          json["progs"] = Json::array();
          for (const ProgInfo& prog : list.progs) json["progs"].push_back(prog_json(prog, false));
        }
        add_problems(json, list.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace guestscope
