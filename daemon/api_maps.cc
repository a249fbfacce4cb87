// /maps and /maps/REF.
#include <algorithm>
#include <memory>

#include "daemon/api.h"
#include "daemon/bpftool_json.h"
#include "daemon/contents_json.h"
#include "daemon/guest_json.h"

namespace guestscope {

namespace {

constexpr std::size_t kMaxPrettyBytes = 16 << 20;

struct Options {
  bool pretty = false;
  bool raw = false;
  bool contents = false;
  bool bpftool = false;
};

Result<Options> parse_options(const Request& request) {
  const bool one = request.path.size() == 2;
  GS_CHECK(one ? request.allow_only({"pretty", "raw", "format"})
               : request.allow_only({"pretty", "raw", "contents", "name", "type", "format"}));
  Options options;
  GS_ASSIGN(options.pretty, request.flag("pretty"));
  GS_ASSIGN(options.raw, request.flag("raw"));
  GS_ASSIGN(options.contents, request.flag("contents"));
  GS_ASSIGN(options.bpftool, wants_bpftool(request));
  return options;
}

/// A map and, when they were asked for, its contents or why there are none. Copies share the
/// contents.
struct ReadMap {
  MapInfo info;
  std::shared_ptr<const Result<MapContents>> contents{};
};

struct ReadMaps {
  std::vector<ReadMap> maps;
  Problems problems;
};

void read_contents(GuestKernel& kernel, PhysMemory& memory, std::vector<ReadMap>& maps) {
  std::size_t budget = kMaxContentBytes;
  for (ReadMap& map : maps)
    map.contents = std::make_shared<const Result<MapContents>>(
        kernel.map_contents(memory, map.info, {}, budget));
}

using Wanted = std::function<bool(const MapInfo&)>;

Result<ReadMaps> read_wanted(GuestKernel& kernel, PhysMemory& memory, const Wanted& wanted,
                             bool contents) {
  GS_ASSIGN(MapList list, kernel.maps(memory));
  ReadMaps read{.maps = {}, .problems = std::move(list.problems)};
  for (MapInfo& map : list.maps)
    if (wanted(map)) read.maps.push_back({.info = std::move(map)});
  if (contents) read_contents(kernel, memory, read.maps);
  return read;
}

/// The object with the map's own fields; the closing brace is written after its entries.
std::string open_object(Json json) {
  std::string text = dump_json(json);
  text.pop_back();
  return text;
}

/// Writes ,"entries":… and ,"problems":…, those of the list among them.
bool write_contents(const Result<MapContents>& contents, bool raw, const Problems& further,
                    const WriteBody& write) {
  if (contents) return write(",") && write_entries(*contents, raw, further, write);
  Problems problems = further;
  problems.add("entries", contents.error());
  return write(",\"entries\":null,\"problems\":" + dump_json(problems_json(problems)));
}

/// An answer written by `stream`; indented, it has to exist as a whole first.
Answer stream_answer(std::function<void(const WriteBody&)> stream, bool pretty) {
  Answer answer;
  if (!pretty) {
    answer.stream = std::move(stream);
    return answer;
  }
  std::string whole;
  stream([&](std::string_view piece) {
    whole += piece;
    return whole.size() <= kMaxPrettyBytes;
  });
  if (whole.size() > kMaxPrettyBytes)
    return problem_answer(
        {.code = ErrorCode::kInvalidArgument,
         .message =
             fmt::format("this answer is too large for ?pretty (more than {} MB): leave it out",
                         kMaxPrettyBytes >> 20)});
  answer.body = dump_json(Json::parse(whole), 2) + "\n";
  return answer;
}

/// `map show`.
Answer bpftool_list(const ReadMaps& read) {
  Answer answer;
  for (const ReadMap& map : read.maps)
    answer.body += (answer.body.empty() ? "[" : ",") + bpftool_map(map.info);
  if (answer.body.empty()) answer.body = "[";
  answer.body += "]\n";
  return answer;
}

/// `map dump`.
Answer bpftool_answer(const ReadMap& map, bool pretty) {
  if (!*map.contents && bpftool_reads_contents(map.info))
    return problem_answer(map.contents->error());
  return stream_answer(
      [info = map.info, contents = map.contents](const WriteBody& write) {
        BpftoolWriter writer(info, write);
        if (!*contents || writer.part(**contents)) writer.end();
      },
      pretty);
}

Answer list_answer(Snapshot<ReadMaps> taken, const Options& options) {
  if (options.bpftool) return bpftool_list(taken.value);
  const auto snapshot = std::make_shared<const Snapshot<ReadMaps>>(std::move(taken));
  return stream_answer(
      [snapshot, raw = options.raw](const WriteBody& write) {
        bool wanted =
            write("{\"snapshot\":" + dump_json(snapshot_json(snapshot->meta)) + ",\"maps\":[");
        const auto& maps = snapshot->value.maps;
        for (std::size_t i = 0; wanted && i < maps.size(); ++i) {
          wanted = write((i == 0 ? "" : ",") + open_object(map_json(maps[i].info)));
          if (wanted && maps[i].contents)
            wanted = write_contents(*maps[i].contents, raw, {}, write);
          wanted = wanted && write("}");
        }
        if (!wanted) return;
        write("]");
        if (!snapshot->value.problems.empty())
          write(",\"problems\":" + dump_json(problems_json(snapshot->value.problems)));
        write("}\n");
      },
      options.pretty);
}

Answer one_answer(Snapshot<ReadMaps> taken, const std::string& ref, const Options& options) {
  auto& maps = taken.value.maps;
  if (maps.empty()) return none_answer("map", ref, taken.value.problems);
  if (maps.size() > 1) {
    std::vector<std::uint64_t> ids;
    for (const ReadMap& map : maps) ids.push_back(map.info.id);
    return ambiguous_answer("maps", ref, ids);
  }
  if (options.bpftool) return bpftool_answer(maps.front(), options.pretty);
  Json head = {{"snapshot", snapshot_json(taken.meta)}};
  head.update(map_json(maps.front().info));
  return stream_answer(
      [contents = maps.front().contents, problems = std::move(taken.value.problems),
       head = open_object(std::move(head)), raw = options.raw](const WriteBody& write) {
        if (write(head) && write_contents(*contents, raw, problems, write)) write("}\n");
      },
      options.pretty);
}

Answer answer_list(GuestSession& session, const Request& request, const Options& options) {
  const auto asked = [&](const char* name) {
    const auto found = request.query.find(name);
    return found == request.query.end() ? std::nullopt : std::optional(found->second);
  };
  const Wanted wanted = [name = asked("name"), type = asked("type")](const MapInfo& map) {
    return (!name || map.name == *name) && (!type || map.type == *type);
  };
  // Lengths first: no two requests that ask for different things may have the same kind.
  const std::string name = asked("name").value_or("");
  const std::string kind =
      fmt::format("maps {} {}{}:{} {}{}", options.contents, asked("name").has_value(), name.size(),
                  name, asked("type").has_value(), asked("type").value_or(""));
  auto taken = session.snapshot(
      kind,
      [wanted, contents = options.contents](GuestKernel& kernel, PhysMemory& memory) {
        return read_wanted(kernel, memory, wanted, contents);
      },
      kSnapshotTimeout);
  return taken ? list_answer(*std::move(taken), options)
               : snapshot_problem(taken.error(), session, "maps");
}

/// REF is an id, or a name; a map may have a number for its name, but an id wins.
Result<ReadMaps> read_ref(GuestKernel& kernel, PhysMemory& memory, const std::string& ref) {
  GS_ASSIGN(ReadMaps all, read_wanted(kernel, memory, [](const MapInfo&) { return true; }, false));
  const auto id = parse_number(ref);
  const bool by_id =
      id && std::ranges::any_of(all.maps, [&](const ReadMap& map) { return map.info.id == *id; });
  std::erase_if(all.maps, [&](const ReadMap& map) {
    return by_id ? map.info.id != *id : map.info.name != ref;
  });
  if (all.maps.size() == 1) read_contents(kernel, memory, all.maps);
  return all;
}

}  // namespace

Answer answer_maps(GuestSession& session, const Request& request) {
  const auto options = parse_options(request);
  if (!options) return problem_answer(options.error());
  if (request.path.size() == 1) return answer_list(session, request, *options);
  const std::string& ref = request.path[1];
  auto taken = session.snapshot(
      "map " + ref,
      [ref](GuestKernel& kernel, PhysMemory& memory) { return read_ref(kernel, memory, ref); },
      kSnapshotTimeout);
  return taken ? one_answer(*std::move(taken), ref, *options)
               : snapshot_problem(taken.error(), session, "maps");
}

}  // namespace guestscope
