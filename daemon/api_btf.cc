// /btf, /btf/REF and /btf/REF/raw.
#include "daemon/api.h"
#include "daemon/guest_json.h"
#include "daemon/progs_json.h"
#include "daemon/refs.h"

namespace guestscope {

namespace {

/// The kernel's types have a name, and a module's.
bool has_name(const BtfInfo& object, const std::string& name) {
  return !object.name.empty() && object.name == name;
}

struct ReadTypes {
  BtfObjectList list;
  Result<Bytes> bytes;
};

Answer answer_raw(const GuestView& session, const Request& request) {
  if (const auto valid = request.allow_only({}); !valid) return problem_answer(valid.error());
  const std::string& ref = request.path[1];
  auto taken = session.snapshot(
      "btf raw " + ref,
      [ref](GuestKernel& kernel, PhysMemory& memory) -> Result<ReadTypes> {
        GS_ASSIGN(BtfObjectList list, kernel.btf_objects(memory));
        keep_ref(list.objects, ref, has_name);
        ReadTypes read{.list = std::move(list), .bytes = {}};
        if (read.list.objects.size() == 1)
          read.bytes = kernel.btf_bytes(memory, read.list.objects.front());
        return read;
      },
      kSnapshotTimeout);
  if (!taken) return snapshot_problem(taken.error(), session, "progs");
  const auto& list = taken->value.list;
  if (auto problem = not_one(list.objects, "BTF object", ref, list.problems))
    return *std::move(problem);
  if (!taken->value.bytes) return problem_answer(taken->value.bytes.error());
  return bytes_answer(*taken->value.bytes);
}

}  // namespace

Answer answer_btf(const GuestView& session, const Request& request) {
  if (request.path.size() == 3) {
    if (request.path[2] == "raw") return answer_raw(session, request);
    return problem_answer(
        {.code = ErrorCode::kNotFound,
         .message = fmt::format("BTF objects have no '{}': there is /raw", request.path[2])});
  }
  if (const auto valid = request.allow_only({"pretty"}); !valid)
    return problem_answer(valid.error());
  const auto pretty = request.flag("pretty");
  if (!pretty) return problem_answer(pretty.error());
  return answer_by(
      session, request, "btf",
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.btf_objects(memory); }, "progs",
      [&](BtfObjectList list, const SnapshotMeta& meta) {
        Json json = {{"snapshot", snapshot_json(meta)}};
        if (request.path.size() == 2) {
          keep_ref(list.objects, request.path[1], has_name);
          if (auto problem = not_one(list.objects, "BTF object", request.path[1], list.problems))
            return *std::move(problem);
          json.update(btf_json(list.objects.front()));
        } else {
          json["btf"] = Json::array();
          for (const BtfInfo& object : list.objects) json["btf"].push_back(btf_json(object));
        }
        add_problems(json, list.problems);
        return json_answer(json, *pretty);
      });
}

}  // namespace guestscope
