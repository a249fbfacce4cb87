#include "gdbproto/read_plan.h"

#include <doctest/doctest.h>

#include <random>

#include "gdbproto/hex.h"
#include "tests/support/qemu_model.h"

namespace guestscope::gdb {
namespace {

constexpr std::uint64_t kMax = 2040;
constexpr std::uint64_t kGap = 256;

// Plays a stub that answers every m packet of a plan, in order; gives the packets.
std::vector<std::string> play(ReadPlan& plan, bool later = false) {
  std::vector<std::string> packets;
  const auto answer = [&](const std::string& packet) {
    const std::size_t comma = packet.find(',');
    const std::uint64_t address = *parse_hex(packet.substr(1, comma - 1));
    std::string bytes;
    for (std::uint64_t i = 0; i < *parse_hex(packet.substr(comma + 1)); ++i)
      bytes += static_cast<char>(testing::QemuModel::memory_at(address + i));
    REQUIRE(plan.on_answer(text_to_hex(bytes)));
  };
  for (std::string out; plan.send_next(out) == Exchange::Sent::kQuestion; out.clear()) {
    packets.push_back(out.substr(1, out.size() - 4));
    if (!later) answer(packets.back());
  }
  if (later)
    for (const std::string& packet : packets) answer(packet);
  return packets;
}

struct Batch {
  std::vector<std::vector<std::byte>> buffers;
  std::vector<PhysRead> reads;

  explicit Batch(std::vector<std::pair<std::uint64_t, std::size_t>> ranges) {
    for (const auto& [address, size] : ranges) buffers.emplace_back(size);
    for (std::size_t i = 0; i < ranges.size(); ++i)
      reads.push_back({.address = GuestPhys(ranges[i].first), .into = buffers[i]});
  }

  bool all_right() const {
    for (const PhysRead& read : reads) {
      if (read.error) return false;
      for (std::size_t i = 0; i < read.into.size(); ++i)
        if (read.into[i] != testing::QemuModel::memory_at(read.address.value() + i)) return false;
    }
    return true;
  }
};

const RamMap& ram() {
  static const RamMap map({{GuestPhys(0), 0x100000}, {GuestPhys(0x100080), 0x100000}});
  return map;
}

TEST_CASE("a read is one packet, whatever its address") {
  Batch batch({{0x1234, 64}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan) == std::vector<std::string>{"m1234,40"});
  CHECK(batch.all_right());
}

TEST_CASE("neighbours share a packet, up to the gap and not beyond") {
  Batch near({{0x1000 + 64 + 256, 64}, {0x1000, 64}});
  ReadPlan joined(near.reads, ram(), kMax, kGap);
  CHECK(play(joined) == std::vector<std::string>{"m1000,180"});
  CHECK(near.all_right());
  Batch far({{0x1000 + 64 + 257, 64}, {0x1000, 64}});
  ReadPlan apart(far.reads, ram(), kMax, kGap);
  CHECK(play(apart) == std::vector<std::string>{"m1000,40", "m1141,40"});
  CHECK(far.all_right());
}

TEST_CASE("a gap that is not RAM is never read") {
  Batch batch({{0xfffc0, 64}, {0x100080, 64}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan) == std::vector<std::string>{"mfffc0,40", "m100080,40"});
}

TEST_CASE("a read behind a gap is not cut in two") {
  Batch batch({{0, 2000}, {2030, 64}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan) == std::vector<std::string>{"m0,7d0", "m7ee,40"});
}

TEST_CASE("a long read is split, and shares its last packet with its neighbour") {
  Batch batch({{0, 5000}, {5000, 100}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan) == std::vector<std::string>{"m0,7f8", "m7f8,7f8", "mff0,3fc"});
  CHECK(batch.all_right());
}

TEST_CASE("overlapping, repeated and contained reads are all filled from the same packets") {
  Batch batch({{100, 4000}, {200, 8}, {100, 4000}, {2139, 2}, {4000, 3000}, {100, 1}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan).size() == 4);
  CHECK(batch.all_right());
}

TEST_CASE("reads outside RAM fail with kNotRam and their address, and are not sent") {
  Batch batch({{0x100000, 8}, {0xfffff, 2}, {~std::uint64_t{0}, 8}, {0x10, 8}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(play(plan) == std::vector<std::string>{"m10,8"});
  for (std::size_t i = 0; i < 3; ++i) {
    CAPTURE(i);
    REQUIRE(batch.reads[i].error);
    CHECK(batch.reads[i].error->code == ErrorCode::kNotRam);
    CHECK(batch.reads[i].error->address == batch.reads[i].address.value());
  }
  CHECK_FALSE(batch.reads[3].error);
}

TEST_CASE("an empty read succeeds without a packet") {
  Batch batch({{0x100000, 0}});
  batch.reads[0].error = Error{};
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  CHECK(plan.empty());
  CHECK_FALSE(batch.reads[0].error);
}

TEST_CASE("a refused packet fails the reads in it and says which shared it") {
  Batch batch({{0x1000, 8}, {0x1010, 8}, {0x4000, 8}});
  ReadPlan plan(batch.reads, ram(), kMax, kGap);
  std::string out;
  while (plan.send_next(out) == Exchange::Sent::kQuestion) {
  }
  REQUIRE(plan.on_answer("E14"));
  REQUIRE(plan.on_answer("0102030405060708"));
  CHECK(batch.reads[0].error->code == ErrorCode::kNotMapped);
  CHECK(batch.reads[1].error->code == ErrorCode::kNotMapped);
  CHECK_FALSE(batch.reads[2].error);
  CHECK(plan.take_refused_together() == std::vector<std::size_t>{0, 1});
}

TEST_CASE("a short, long or odd answer is a protocol error, and the unfilled reads say so") {
  for (const char* answer :
       {"", "01", "010203040506070", "010203040506070809", "OK", "010203040506070g"}) {
    CAPTURE(answer);
    Batch batch({{0x1000, 8}, {0x4000, 8}});
    ReadPlan plan(batch.reads, ram(), kMax, kGap);
    std::string out;
    while (plan.send_next(out) == Exchange::Sent::kQuestion) {
    }
    const auto taken = plan.on_answer(answer);
    REQUIRE_FALSE(taken);
    CHECK(taken.error().code == ErrorCode::kProtocol);
    plan.fail_unanswered(taken.error());
    CHECK(batch.reads[0].error);
    CHECK(batch.reads[1].error);
  }
}

TEST_CASE("any batch is filled right, in at most as many packets as without joining") {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::pair<std::uint64_t, std::size_t>> ranges;
    const int count = 1 + static_cast<int>(random() % 40);
    for (int i = 0; i < count; ++i)
      ranges.emplace_back(random() % 0x4000, random() % (random() % 4 == 0 ? 6000 : 90));
    Batch batch(ranges);
    ReadPlan plan(batch.reads, ram(), 300, 64);
    const auto joined = play(plan, round % 2 == 0);
    CHECK(batch.all_right());
    Batch again(ranges);
    std::vector<std::size_t> all;
    for (std::size_t i = 0; i < ranges.size(); ++i)
      if (ranges[i].second > 0) all.push_back(i);
    ReadPlan single(again.reads, ram(), 300, all);
    CHECK(joined.size() <= play(single, round % 2 == 0).size());
    CHECK(again.all_right());
  }
}

}  // namespace
}  // namespace guestscope::gdb
