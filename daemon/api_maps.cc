// /maps and /maps/REF.
//
// The contents of a map that is larger than one part are read while they are sent, each part in a
// snapshot of its own: nothing but that part is ever in memory. The answer's "snapshot" then stands
// at its end and is the sum of all.
#include <algorithm>
#include <memory>

#include "daemon/api.h"
#include "daemon/bpftool_json.h"
#include "daemon/guest_json.h"
#include "daemon/map_key.h"
#include "daemon/map_options.h"
#include "daemon/refs.h"

namespace guestscope {

namespace {

constexpr std::size_t kMaxPrettyBytes = 16 << 20;

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

// --- what is read in one snapshot ---

/// As many as fit; those that do not have no contents yet.
void read_contents(GuestKernel& kernel, PhysMemory& memory, std::vector<ReadMap>& maps) {
  std::size_t budget = kMaxContentBytes;
  for (ReadMap& map : maps) {
    if (budget < kMapPartBytes) return;
    map.contents = std::make_shared<const Result<MapContents>>(
        kernel.map_contents(memory, map.info, {}, budget));
  }
}

/// What is asked of one map's contents: a part of them, or one entry.
struct Question {
  MapPart part{};
  std::optional<std::string> cursor{};
  std::optional<std::string> key{};
  bool key_is_hex = false;

  /// Differs for whatever differs: lengths stand before what is the user's.
  std::string text() const {
    const std::string from = cursor.value_or("");
    return fmt::format("{} {}-{} {}{}:{} {}{}{}", part.limit, part.from.position, part.from.after,
                       cursor.has_value(), from.size(), from, key.has_value(), key_is_hex,
                       key.value_or(""));
  }
};

Result<MapContents> read_answer(GuestKernel& kernel, PhysMemory& memory, const MapInfo& map,
                                const Question& question) {
  if (question.key)
    return kernel.map_entry(memory, map, [&](const MapContents& shape) {
      return question.key_is_hex ? parse_hex_key(shape, *question.key)
                                 : make_key(shape, *question.key);
    });
  MapPart part = question.part;
  if (question.cursor) {
    GS_ASSIGN(part.from, parse_cursor(*question.cursor, map.id));
  }
  std::size_t budget = kMaxContentBytes;
  return kernel.map_contents(memory, map, part, budget);
}

bool has_name(const MapInfo& map, const std::string& name) { return map.name == name; }

/// REF is an id, or a name. No map, or several, have no contents.
Result<ReadMaps> read_ref(GuestKernel& kernel, PhysMemory& memory, const std::string& ref,
                          const Question& question) {
  ReadMaps read;
  if (const auto id = parse_number(ref))
    if (auto known = kernel.known_map(memory, *id))
      read.maps.push_back({.info = *std::move(known)});
  if (read.maps.empty()) {
    GS_ASSIGN(MapList list, kernel.maps(memory));
    read.problems = std::move(list.problems);
    keep_ref(list.maps, ref, has_name);
    for (MapInfo& map : list.maps) read.maps.push_back({.info = std::move(map)});
  }
  if (read.maps.size() == 1)
    read.maps[0].contents = std::make_shared<const Result<MapContents>>(
        read_answer(kernel, memory, read.maps[0].info, question));
  return read;
}

// --- further parts ---

/// The parts of a map's contents after the first, each in a snapshot of its own.
class Parts {
 public:
  Parts(GuestView session, SnapshotMeta first) : session_(session), meta_(first) {}

  /// The part that begins there. kNotFound when the map is gone by now.
  Result<MapContents> next(const MapInfo& map, const MapCursor& from) {
    const Question question{.part = {.from = from}};
    GS_ASSIGN(auto taken,
              session_.snapshot(
                  fmt::format("part of map {}?{}", map.id, question.text()),
                  [map, question](GuestKernel& kernel, PhysMemory& memory) -> Result<MapContents> {
                    GS_ASSIGN(const MapInfo now, kernel.known_map(memory, map.id));
                    if (now.address != map.address)
                      return fail(ErrorCode::kNotFound, "map {} is gone", map.id);
                    return read_answer(kernel, memory, now, question);
                  },
                  kSnapshotTimeout));
    meta_.paused += taken.meta.paused;
    meta_.consistent = false;
    if (taken.value.next && taken.value.next->position <= from.position)
      return fail(ErrorCode::kCorrupt, "the contents of map {} do not go on", map.id);
    return std::move(taken.value);
  }

  /// Of all snapshots together.
  const SnapshotMeta& meta() const { return meta_; }

 private:
  GuestView session_;
  SnapshotMeta meta_;
};

// --- writing ---

/// The object with the map's own fields; the closing brace is written after its entries.
std::string open_object(Json json) {
  std::string text = dump_json(json);
  text.pop_back();
  return text;
}

/// Gives the writer part after part. What is still to be read is read from `further` now, unless
/// that is null. False when the reader has gone.
template <typename Writer>
bool write_parts(const ReadMap& map, Parts* further, Writer& writer) {
  std::optional<MapCursor> next = MapCursor{};
  if (map.contents) {
    const Result<MapContents>& first = *map.contents;
    if (!first) writer.add_problem("entries", first.error());
    if (first && !writer.part(*first)) return false;
    next = first ? first->next : std::nullopt;
  }
  while (next && further != nullptr) {
    const auto part = further->next(map.info, *next);
    if (!part) {
      writer.add_problem("entries", part.error());
      break;
    }
    if (!writer.part(*part)) return false;
    next = part->next;
  }
  return writer.end();
}

/// Writes ,"entries":… and ,"problems":…, those of the list among them.
bool write_contents(const ReadMap& map, const EntryOptions& options, const Problems& problems,
                    Parts* further, const WriteBody& write) {
  EntriesWriter writer(options, problems, write);
  return write(",") && write_parts(map, further, writer);
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

bool has_more(const ReadMap& map) {
  return !map.contents || (*map.contents && (*map.contents)->next);
}

std::string snapshot_member(const SnapshotMeta& meta) {
  return "\"snapshot\":" + dump_json(snapshot_json(meta));
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
Answer bpftool_answer(const GuestView& session, const ReadMap& map, const SnapshotMeta& meta,
                      const MapOptions& options) {
  if (!*map.contents && bpftool_reads_contents(map.info))
    return problem_answer(map.contents->error());
  return stream_answer(
      [session, map, meta, with_absent = !options.key](const WriteBody& write) {
        Parts further(session, meta);
        BpftoolWriter writer(map.info, {.with_absent = with_absent}, write);
        if (*map.contents)
          write_parts(map, &further, writer);
        else
          writer.end();
      },
      options.pretty);
}

Answer list_answer(const GuestView& session, Snapshot<ReadMaps> taken, const MapOptions& options) {
  if (options.bpftool) return bpftool_list(taken.value);
  const auto snapshot = std::make_shared<const Snapshot<ReadMaps>>(std::move(taken));
  return stream_answer(
      [snapshot, session, options](const WriteBody& write) {
        const auto& maps = snapshot->value.maps;
        const bool complete = !options.contents || std::ranges::none_of(maps, has_more);
        Parts parts(session, snapshot->meta);
        bool wanted =
            write(complete ? "{" + snapshot_member(snapshot->meta) + ",\"maps\":[" : "{\"maps\":[");
        for (std::size_t i = 0; wanted && i < maps.size(); ++i) {
          wanted = write((i == 0 ? "" : ",") + open_object(map_json(maps[i].info)));
          if (wanted && options.contents)
            wanted = write_contents(maps[i], options.entries, {}, &parts, write);
          wanted = wanted && write("}");
        }
        if (!wanted) return;
        write("]");
        if (!snapshot->value.problems.empty())
          write(",\"problems\":" + dump_json(problems_json(snapshot->value.problems)));
        write(complete ? "}\n" : "," + snapshot_member(parts.meta()) + "}\n");
      },
      options.pretty);
}

/// What is wrong with an answer about one map before anything of it has been sent.
std::optional<Answer> refuse(const ReadMaps& read, const std::string& ref,
                             const MapOptions& options) {
  if (auto problem = not_one(read.maps, "map", ref, read.problems, &ReadMap::info)) return problem;
  const MapInfo& map = read.maps[0].info;
  const Result<MapContents>& contents = *read.maps[0].contents;
  if (!contents) {
    const bool asked_wrongly = contents.error().code == ErrorCode::kInvalidArgument;
    if (asked_wrongly || options.key) return problem_answer(contents.error());
    return std::nullopt;
  }
  if (options.key && contents->size() == 0 && contents->problems.empty())
    return problem_answer({.code = ErrorCode::kNotFound,
                           .message = fmt::format("map {} ({}) has no entry of key {}", map.id,
                                                  map.name, *options.key)});
  const auto& cpus = contents->cpus;
  const auto& cpu = options.entries.cpu;
  if (cpu && cpus.empty())
    return problem_answer(
        {.code = ErrorCode::kInvalidArgument,
         .message = fmt::format("parameter cpu: {} maps have one value for all CPUs", map.type)});
  if (cpu && std::ranges::find(cpus, *cpu) == cpus.end())
    return problem_answer(
        {.code = ErrorCode::kNotFound, .message = fmt::format("no CPU {}", *cpu)});
  return std::nullopt;
}

Answer one_answer(const GuestView& session, Snapshot<ReadMaps> taken, const std::string& ref,
                  const MapOptions& options) {
  if (auto refused = refuse(taken.value, ref, options)) return *std::move(refused);
  const ReadMap& map = taken.value.maps.front();
  if (options.bpftool) return bpftool_answer(session, map, taken.meta, options);
  // With a limit, the first part is the answer, and the rest is asked for.
  const bool cut = options.limit && has_more(map);
  const bool complete = cut || !has_more(map);
  std::string tail;
  if (cut)
    tail = fmt::format(",\"truncated\":true,\"next\":\"{}\"",
                       cursor_text(map.info.id, *(*map.contents)->next));
  Json head = Json::object();
  if (complete) head["snapshot"] = snapshot_json(taken.meta);
  head.update(map_json(map.info));
  return stream_answer(
      [session, map, entries = options.entries, tail, complete, meta = taken.meta,
       problems = std::move(taken.value.problems),
       head = open_object(std::move(head))](const WriteBody& write) {
        Parts parts(session, meta);
        if (!write(head) ||
            !write_contents(map, entries, problems, complete ? nullptr : &parts, write))
          return;
        write(tail + (complete ? "}\n" : "," + snapshot_member(parts.meta()) + "}\n"));
      },
      options.pretty);
}

Answer answer_list(const GuestView& session, const MapOptions& options) {
  const auto read = [name = options.name, type = options.type, contents = options.contents](
                        GuestKernel& kernel, PhysMemory& memory) -> Result<ReadMaps> {
    GS_ASSIGN(MapList list, kernel.maps(memory));
    ReadMaps found{.maps = {}, .problems = std::move(list.problems)};
    for (MapInfo& map : list.maps)
      if ((!name || map.name == *name) && (!type || map.type == *type))
        found.maps.push_back({.info = std::move(map)});
    if (contents) read_contents(kernel, memory, found.maps);
    return found;
  };
  // Lengths first: no two requests that ask for different things may have the same kind.
  const std::string name = options.name.value_or("");
  const std::string kind =
      fmt::format("maps {} {}{}:{} {}{}", options.contents, options.name.has_value(), name.size(),
                  name, options.type.has_value(), options.type.value_or(""));
  auto taken = session.snapshot(kind, read, kSnapshotTimeout);
  return taken ? list_answer(session, *std::move(taken), options)
               : snapshot_problem(taken.error(), session, "maps");
}

}  // namespace

Answer answer_maps(const GuestView& session, const Request& request) {
  const auto options = parse_map_options(request);
  if (!options) return problem_answer(options.error());
  if (request.path.size() == 1) return answer_list(session, *options);
  const std::string& ref = request.path[1];
  Question question{
      .cursor = options->cursor, .key = options->key, .key_is_hex = options->key_is_hex};
  if (options->limit) question.part.limit = *options->limit;
  auto taken = session.snapshot(
      fmt::format("map {}:{}?{}", ref.size(), ref, question.text()),
      [ref, question](GuestKernel& kernel, PhysMemory& memory) {
        return read_ref(kernel, memory, ref, question);
      },
      kSnapshotTimeout);
  return taken ? one_answer(session, *std::move(taken), ref, *options)
               : snapshot_problem(taken.error(), session, "maps");
}

}  // namespace guestscope
