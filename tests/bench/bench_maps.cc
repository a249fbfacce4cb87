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
constexpr int kRepeats = 9;
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
  void read_while(std::span<PhysRead> reads, const std::function<void()>& work) override {
    for (const PhysRead& read : reads) bytes += read.into.size();
    memory_.read_while(reads, work);
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

/// `share`: of the ceiling that was measured just before, in percent.
struct Round {
  Cost cost;
  double share = 0;
};

template <typename Work>
Cost measure_once(GuestSession& session, const std::string& kind, Work work) {
  auto taken = session.snapshot(
      kind,
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
  Cost cost = snapshot.value;
  cost.round_trips = snapshot.meta.round_trips;
  cost.packets = snapshot.meta.packets;
  return cost;
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

double speed(const Cost& cost) { return static_cast<double>(cost.bytes) / cost.ms / 1000; }

/// The round of median time; the share is a median of its own.
Json json_of(std::vector<Round> rounds) {
  std::ranges::sort(rounds, {}, &Round::share);
  const double share = rounds[rounds.size() / 2].share;
  std::ranges::sort(rounds, {}, [](const Round& round) { return round.cost.ms; });
  const Cost& cost = rounds[rounds.size() / 2].cost;
  return {{"ms", cost.ms},           {"round_trips", cost.round_trips},
          {"packets", cost.packets}, {"bytes_read", cost.bytes},
          {"entries", cost.entries}, {"mb_per_s", speed(cost)},
          {"ceiling_percent", share}};
}

Result<std::size_t> read_neighbouring_memory(GuestKernel&, PhysMemory& memory) {
  Bytes into(kCeilingBytes);
  GS_CHECK(memory.read_one(GuestPhys(kCeilingAddress), into));
  return 0;
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
  const MapInfo hash = find(session, "large_hash");
  const MapInfo array = find(session, "large_array");
  const std::uint64_t huge = find(session, "huge_hash").id;
  std::uint64_t number = 0;
  const auto whole = [](const MapInfo& map) {
    return
        [&map](GuestKernel& kernel, PhysMemory& memory) { return read_whole(kernel, memory, map); };
  };
  // The host's speed changes from one second to the next: each is compared with a ceiling beside
  // it.
  std::map<std::string, std::vector<Round>> rounds;
  const auto measure = [&](const std::string& name, auto work) {
    const Cost ceiling = measure_once(session, "ceiling", read_neighbouring_memory);
    rounds["ceiling"].push_back({.cost = ceiling, .share = 100});
    const Cost cost = measure_once(session, name, work);
    rounds[name].push_back({.cost = cost, .share = 100 * speed(cost) / speed(ceiling)});
  };
  for (int i = 0; i < kRepeats; ++i) {
    measure("large_hash", whole(hash));
    measure("large_array", whole(array));
    measure("huge_hash?key=", [&](GuestKernel& kernel, PhysMemory& memory) {
      return look_up(kernel, memory, huge, number += 123457);
    });
  }
  Json result;
  for (auto& [name, of_name] : rounds) result[name] = json_of(std::move(of_name));
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
