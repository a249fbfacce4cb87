// What large maps cost: reading one from end to end against what the stub gives at best, and one
// entry by its key. Prints one JSON object; run.py makes the guest with the maps and a table of it.
//
//   bench_maps STUB VMLINUX
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>

#include "daemon/guest_session.h"
#include "daemon/json_value.h"

namespace guestscope {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kTimeout{60};
constexpr int kRepeats = 5;
constexpr std::size_t kCeilingBytes = 16 << 20;
constexpr std::uint64_t kCeilingAddress = 16 << 20;  // RAM on every machine that boots

template <typename T>
T must(Result<T> result, const char* what) {
  if (result) return *std::move(result);
  std::cerr << "bench_maps: " << what << ": " << result.error().to_string() << '\n';
  std::exit(1);
}

/// Counts what is asked of it.
class CountingMemory final : public PhysMemory {
 public:
  explicit CountingMemory(PhysMemory& memory) : memory_(memory) {}
  void read(std::span<PhysRead> reads) override {
    for (const PhysRead& read : reads) bytes += read.into.size();
    memory_.read(reads);
  }

  std::size_t bytes = 0;

 private:
  PhysMemory& memory_;
};

struct Cost {
  double ms = 0;
  std::uint64_t round_trips = 0;  ///< of the whole snapshot
  std::uint64_t packets = 0;      ///< likewise
  std::size_t bytes = 0;          ///< asked for
  std::size_t entries = 0;
};

/// The median of several, by time.
template <typename Work>
Cost measure(GuestSession& session, const std::string& kind, Work work) {
  std::vector<Cost> costs;
  for (int i = 0; i < kRepeats; ++i) {
    auto taken = session.snapshot(
        fmt::format("{}?{}", kind, i),
        [&work](GuestKernel& kernel, PhysMemory& memory) -> Result<Cost> {
          CountingMemory counting(memory);
          const auto start = Clock::now();
          GS_ASSIGN(const std::size_t entries, work(kernel, counting));
          return Cost{.ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count(),
                      .round_trips = 0,
                      .packets = 0,
                      .bytes = counting.bytes,
                      .entries = entries};
        },
        kTimeout);
    const auto snapshot = must(std::move(taken), kind.c_str());
    costs.push_back(snapshot.value);
    costs.back().round_trips = snapshot.meta.round_trips;
    costs.back().packets = snapshot.meta.packets;
  }
  std::ranges::sort(costs, {}, &Cost::ms);
  return costs[kRepeats / 2];
}

Result<MapInfo> find(GuestKernel& kernel, PhysMemory& memory, const std::string& name) {
  GS_ASSIGN(const MapList list, kernel.maps(memory));
  for (const MapInfo& map : list.maps)
    if (map.name == name) return map;
  return fail(ErrorCode::kNotFound, "no map {}", name);
}

MapInfo find(GuestSession& session, const std::string& name) {
  return must(session.snapshot(
                  "find " + name,
                  [name](GuestKernel& kernel, PhysMemory& memory) {
                    return find(kernel, memory, name);
                  },
                  kTimeout),
              name.c_str())
      .value;
}

Result<std::size_t> read_whole(GuestKernel& kernel, PhysMemory& memory, const MapInfo& map) {
  std::size_t entries = 0;
  for (MapPart part{};;) {
    std::size_t budget = kMaxContentBytes;
    GS_ASSIGN(const MapContents contents, kernel.map_contents(memory, map, part, budget));
    entries += contents.size();
    if (!contents.next) return entries;
    part.from = *contents.next;
  }
}

Result<std::size_t> look_up(GuestKernel& kernel, PhysMemory& memory, std::uint64_t id,
                            std::uint64_t number) {
  GS_ASSIGN(const MapInfo map, kernel.known_map(memory, id));
  const auto make_key = [number](const MapContents& shape) -> Result<Bytes> {
    Bytes key(shape.key_size);
    const std::uint64_t value = number * 0x9e3779b97f4a7c15;
    for (std::size_t i = 0; i < std::min<std::size_t>(8, key.size()); ++i)
      key[i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
    return key;
  };
  GS_ASSIGN(const MapContents contents, kernel.map_entry(memory, map, make_key));
  return contents.size();
}

Json json_of(const Cost& cost) {
  return {
      {"ms", cost.ms},           {"round_trips", cost.round_trips},
      {"packets", cost.packets}, {"bytes_read", cost.bytes},
      {"entries", cost.entries}, {"mb_per_s", static_cast<double>(cost.bytes) / cost.ms / 1000}};
}

Json run(const std::string& stub, const std::string& vmlinux) {
  GuestConfig config;
  config.gdb = must(gdb::StubAddress::parse(stub), "stub");
  config.max_pause_share = 1;
  config.memory = MemoryMode::kStub;
  config.max_pause = kTimeout;  // what is measured is reading, without the guest's turns in between
  GuestSession session(std::move(config),
                       KernelModel::bind(must(KernelFile::open(vmlinux), "kernel file")));
  session.start();
  const auto deadline = Clock::now() + kTimeout;
  while (!session.status().kernel.ready() && Clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  Json result;
  result["ceiling"] = json_of(
      measure(session, "ceiling", [](GuestKernel&, PhysMemory& memory) -> Result<std::size_t> {
        Bytes into(kCeilingBytes);
        GS_CHECK(memory.read_one(GuestPhys(kCeilingAddress), into));
        return 0;
      }));
  for (const char* name : {"large_hash", "large_array"}) {
    const MapInfo map = find(session, name);
    result[name] = json_of(measure(session, name, [&](GuestKernel& kernel, PhysMemory& memory) {
      return read_whole(kernel, memory, map);
    }));
  }
  const std::uint64_t huge = find(session, "huge_hash").id;
  std::uint64_t number = 0;
  result["huge_hash?key="] =
      json_of(measure(session, "key", [&](GuestKernel& kernel, PhysMemory& memory) {
        return look_up(kernel, memory, huge, number += 123457);
      }));
  return result;
}

}  // namespace
}  // namespace guestscope

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: bench_maps STUB VMLINUX\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::off);  // standard output is for the figures
  std::cout << guestscope::run(argv[1], argv[2]).dump(2) << '\n';
  return 0;
}
