// How fast values become text: entries of a map with a mixed structure, in memory, on one core.
//
//   bench_json [ENTRIES]     prints MB of output per second for each notation
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "daemon/bpftool_value.h"
#include "daemon/json_value.h"
#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

struct Types : BtfBuilder {
  TypeId u8 = integer("unsigned char", 1, 8);
  TypeId u16 = integer("unsigned short", 2, 16);
  TypeId u32 = refer(BtfKind::kTypedef, integer("unsigned int", 4, 32), "u32");
  TypeId s32 = integer("int", 4, 32, 1);
  TypeId u64 = refer(BtfKind::kTypedef, integer("unsigned long long", 8, 64), "u64");
  TypeId yes = integer("_Bool", 1, 8, 4);
  TypeId letter = integer("char", 1, 8, 1);
  TypeId pointer = refer(BtfKind::kPtr, 0);
  TypeId state = enumeration(BtfKind::kEnum, "state", 4,
                             {{"IDLE", 0}, {"RUNNING", 1}, {"BLOCKED", 2}, {"DEAD", 16}});
  TypeId point = aggregate(BtfKind::kStruct, "point", 8, {{"x", s32, 0}, {"y", s32, 32}});
  TypeId key = aggregate(BtfKind::kStruct, "key", 8,
                         {{"cpu", u32, 0}, {"port", u16, 32}, {"proto", u8, 48}});
  TypeId value = aggregate(BtfKind::kStruct, "value", 96,
                           {{"events", u64, 0},
                            {"last_pid", u32, 64},
                            {"state", state, 96},
                            {"comm", array(letter, 16), 128},
                            {"port", u16, 256},
                            {"on", yes, 272},
                            {"low", u32, 288, 3},
                            {"middle", u32, 291, 13},
                            {"at", point, 320},
                            {"owner", pointer, 384},
                            {"times", array(u64, 4), 448}},
                           true);
};

Bytes random_entry(std::mt19937_64& random) {
  Bytes bytes(104);
  for (std::byte& byte : bytes)
    byte = static_cast<std::byte>(random() % 4 == 0 ? random() & 0xff : 0);
  const std::string_view comm = "kworker/0:1H";
  for (std::size_t i = 0; i < 16; ++i)
    bytes[8 + 16 + i] = static_cast<std::byte>(i < comm.size() ? comm[i] : 0);
  bytes[8 + 12] = std::byte{1};
  return bytes;
}

template <typename Append>
void measure(const char* what, int entries, Append append) {
  std::mt19937_64 random(1);
  std::vector<Bytes> distinct;
  for (int i = 0; i < 1000; ++i) distinct.push_back(random_entry(random));
  std::string text;
  std::size_t total = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < entries; ++i) {
    const ByteSpan entry = distinct[static_cast<std::size_t>(i) % distinct.size()];
    append(text, entry.first(8), entry.subspan(8));
    if (text.size() < (64 << 10)) continue;
    total += text.size();
    text.clear();
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  total += text.size();
  fmt::print("{:<8} {:6.1f} MB/s  ({} entries, {:.1f} MB)\n", what,
             static_cast<double>(total) / 1e6 / taken.count(), entries,
             static_cast<double>(total) / 1e6);
}

void run(int entries) {
  const Types types;
  const Btf btf = types.build();
  ValuePlan plan(btf);
  measure("typed", entries, [&](std::string& text, ByteSpan key, ByteSpan value) {
    text += "{\"key\":";
    static_cast<void>(append_value(text, plan, types.key, key));
    text += ",\"value\":";
    static_cast<void>(append_value(text, plan, types.value, value));
    text += '}';
  });
  measure("hex", entries, [&](std::string& text, ByteSpan key, ByteSpan value) {
    append_string(text, hex_bytes(key));
    append_string(text, hex_bytes(value));
  });
  measure("bpftool", entries, [&](std::string& text, ByteSpan key, ByteSpan value) {
    append_bpftool_bytes(text, key);
    append_bpftool_bytes(text, value);
    append_bpftool_value(text, btf, types.key, key);
    append_bpftool_value(text, btf, types.value, value);
  });
}

}  // namespace
}  // namespace guestscope

int main(int argc, char** argv) {
  const int entries = argc > 1 ? std::atoi(argv[1]) : 0;
  guestscope::run(entries > 0 ? entries : 100'000);
}
