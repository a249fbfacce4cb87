// /links and /links/REF.
#include <algorithm>

#include "daemon/api.h"
#include "daemon/bpftool_json.h"
#include "daemon/bpftool_show.h"
#include "daemon/guest_json.h"
#include "daemon/progs_json.h"

namespace guestscope {

namespace {

/// What ?type= and ?prog_id= leave.
Result<void> keep_wanted(std::vector<LinkInfo>& links, const Request& request) {
  if (const auto type = request.query.find("type"); type != request.query.end())
    std::erase_if(links, [&](const LinkInfo& link) { return link.type != type->second; });
  const auto prog = request.query.find("prog_id");
  if (prog == request.query.end()) return {};
  const auto id = parse_number(prog->second);
  if (!id) return fail(ErrorCode::kInvalidArgument, "?prog_id={} is no id", prog->second);
  std::erase_if(links, [&](const LinkInfo& link) { return link.prog_id != *id; });
  return {};
}

}  // namespace

Answer answer_links(const GuestView& session, const Request& request) {
  const bool one = request.path.size() == 2;
  const auto valid = one ? request.allow_only({"pretty", "format"})
                         : request.allow_only({"pretty", "format", "type", "prog_id"});
  if (!valid) return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  const auto bpftool = wants_bpftool(request);
  if (!bpftool) return problem_answer(bpftool.error());
  std::vector<LinkInfo> none;
  if (const auto asked = keep_wanted(none, request); !asked) return problem_answer(asked.error());
  const auto id = one ? parse_number(request.path[1]) : std::nullopt;
  if (one && !id)
    return problem_answer(
        {.code = ErrorCode::kInvalidArgument,
         .message = fmt::format("'{}' is no id: links have no names", request.path[1])});
  return answer_by(
      session, request, "links",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.links(memory); }, "progs",
      [&](const LinkList& list, const SnapshotMeta& meta) {
        Json json = {{"snapshot", snapshot_json(meta)}};
        if (one) {
          const auto found = std::ranges::find(list.links, *id, &LinkInfo::id);
          if (found == list.links.end()) return none_answer("link", request.path[1], list.problems);
          if (*bpftool) return text_answer(bpftool_link(*found) + "\n", *pretty);
          json.update(link_json(*found));
        } else {
          std::vector<LinkInfo> links = list.links;
          (void)keep_wanted(links, request);
          if (*bpftool) return text_answer(bpftool_list(links, bpftool_link), *pretty);
          json["links"] = Json::array();
          for (const LinkInfo& link : links) json["links"].push_back(link_json(link));
        }
        add_problems(json, list.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace guestscope
