// What looking costs: start-up step by step, and for each kind of snapshot the pause of the guest,
// the round trips and the packets. Prints one JSON object; run.py boots the guest and makes a table
// of it.
//
//   bench_snapshots STUB VMLINUX SNAPSHOTS
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iostream>
#include <numeric>

#include "daemon/guest_session.h"
#include "daemon/json_value.h"

namespace guestscope {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr std::chrono::seconds kTimeout{30};

double ms_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

template <typename T>
T must(Result<T> result, const char* what) {
  if (result) return *std::move(result);
  std::cerr << "bench_snapshots: " << what << ": " << result.error().to_string() << '\n';
  std::exit(1);
}

Json summary(std::vector<double> values) {
  std::ranges::sort(values);
  const auto at = [&](double part) {
    return values[static_cast<std::size_t>(part * static_cast<double>(values.size() - 1))];
  };
  return {{"median", at(0.5)}, {"p99", at(0.99)}, {"max", values.back()}};
}

template <typename Work>
Json measure(GuestSession& session, const std::string& kind, int snapshots, Work work) {
  std::vector<double> pauses;
  std::vector<double> totals;
  std::vector<double> round_trips;
  std::vector<double> stops;
  const SnapshotMeta first = must(session.snapshot(kind, work, kTimeout), kind.c_str()).meta;
  SnapshotMeta last;
  for (int i = 0; i < snapshots; ++i) {
    const auto start = Clock::now();
    last = must(session.snapshot(kind, work, kTimeout), kind.c_str()).meta;
    totals.push_back(ms_since(start) * 1000);
    pauses.push_back(static_cast<double>(last.paused.count()));
    round_trips.push_back(static_cast<double>(last.round_trips));
    stops.push_back(static_cast<double>(last.stops));
  }
  return {{"pause_us", summary(std::move(pauses))},
          {"total_us", summary(std::move(totals))},
          {"round_trips", summary(std::move(round_trips))},
          {"stops", summary(std::move(stops))},
          {"first", {{"pause_us", first.paused.count()}, {"round_trips", first.round_trips}}},
          {"packets", last.packets}};
}

void wait_until_ready(const GuestSession& session) {
  const auto deadline = Clock::now() + kTimeout;
  while (!session.status().kernel.ready()) {
    if (Clock::now() > deadline)
      must(Result<int>(fail(ErrorCode::kTimeout, "the guest is not ready")), "waiting");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

Result<std::size_t> read_all_contents(GuestKernel& kernel, PhysMemory& memory) {
  GS_ASSIGN(const MapList list, kernel.maps(memory));
  std::size_t entries = 0;
  std::size_t budget = kMaxContentBytes;
  for (const MapInfo& map : list.maps)
    if (const auto contents = kernel.map_contents(memory, map, {}, budget))
      entries += contents->size();
  return entries;
}

Json run(const std::string& stub, const std::string& vmlinux, int snapshots) {
  Json start_up;
  auto start = Clock::now();
  auto file = must(KernelFile::open(vmlinux), "kernel file");
  start_up["open_kernel_file_ms"] = ms_since(start);
  start = Clock::now();
  auto model = KernelModel::bind(std::move(file));
  start_up["bind_layouts_ms"] = ms_since(start);
  GuestConfig config;
  config.gdb = must(gdb::StubAddress::parse(stub), "stub");
  config.max_pause_share = 1;
  config.memory = MemoryMode::kStub;
  start = Clock::now();
  GuestSession session(std::move(config), std::move(model));
  session.start();
  wait_until_ready(session);
  start_up["attach_and_accessors_ms"] = ms_since(start);

  const auto maps = [](GuestKernel& kernel, PhysMemory& memory) { return kernel.maps(memory); };
  start = Clock::now();
  must(session.snapshot("maps", maps, kTimeout), "maps");
  start_up["first_maps_ms"] = ms_since(start);
  Json kinds;
  kinds["nothing"] = measure(session, "nothing", snapshots,
                             [](GuestKernel&, PhysMemory&) { return Result<int>(0); });
  kinds["/runqueues?tasks=0"] = measure(
      session, "runqueues?tasks=0", snapshots,
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.run_queues(memory, false); });
  kinds["/runqueues"] = measure(
      session, "runqueues", snapshots,
      [](GuestKernel& kernel, PhysMemory& memory) { return kernel.run_queues(memory, true); });
  kinds["/maps"] = measure(session, "maps", snapshots, maps);
  kinds["/progs"] =
      measure(session, "progs", snapshots,
              [](GuestKernel& kernel, PhysMemory& memory) { return kernel.progs(memory); });
  kinds["/links"] =
      measure(session, "links", snapshots,
              [](GuestKernel& kernel, PhysMemory& memory) { return kernel.links(memory); });
  kinds["/btf"] = measure(session, "btf", snapshots, [](GuestKernel& kernel, PhysMemory& memory) {
    return kernel.btf_objects(memory);
  });
  kinds["/maps?contents"] =
      measure(session, "contents", std::max(1, snapshots / 20), read_all_contents);
  return {{"start_up", start_up}, {"snapshots", kinds}};
}

}  // namespace
}  // namespace guestscope

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: bench_snapshots STUB VMLINUX SNAPSHOTS\n";
    return 2;
  }
  spdlog::set_level(spdlog::level::off);  // standard output is for the figures
  std::cout << guestscope::run(argv[1], argv[2], std::max(1, std::atoi(argv[3]))).dump(2) << '\n';
  return 0;
}
