// Input: a byte that chooses limit and piece size, then what a stub sends.
#include <algorithm>
#include <string>

#include "gdbproto/packet.h"
#include "tests/fuzz/fuzz_targets.h"

namespace guestscope::fuzz {

namespace {

void decode(std::string_view stream, std::size_t limit, std::size_t piece) {
  gdb::PacketDecoder decoder(limit);
  while (!stream.empty()) {
    std::string_view part = stream.substr(0, piece);
    const std::size_t before = part.size();
    const auto event = decoder.next(part);
    require(event || part.empty(), "without an event all input is taken");
    require(part.size() < before, "every call takes something");
    if (event && event->kind == gdb::PacketDecoder::EventKind::kPacket)
      require(event->payload.size() <= limit, "a payload is within the limit");
    stream.remove_prefix(before - part.size());
  }
}

void come_back(std::string_view payload) {
  std::string wire;
  gdb::append_packet(wire, payload);
  gdb::PacketDecoder decoder(payload.size());
  std::string_view rest = wire;
  const auto event = decoder.next(rest);
  require(event && event->kind == gdb::PacketDecoder::EventKind::kPacket &&
              event->payload == payload && rest.empty(),
          "what is written as a packet is read as the same");
}

}  // namespace

void run_packets(ByteSpan input) {
  if (input.empty()) return;
  const auto choice = std::to_integer<std::size_t>(input[0]);
  const std::string_view stream = as_text(input.subspan(1));
  decode(stream, std::size_t{1} << (choice & 15), 1 + (choice >> 4) * 7);
  come_back(stream);
}

std::vector<Bytes> packet_seeds() {
  std::vector<Bytes> seeds;
  for (const std::string_view text :
       {"\x0cx$OK#9a+$T02thread:01;#04", "\xffy$m0*!*\"#83-$E14#aa", "\x05z$a}\x03}]b#00$#00",
        "\x0c$O6b6b#xx%Stop:x#00$l<a/>#61", "\x03$aaaaaaaaaaaaaaaaaaaa#ff+-$$#00"})
    seeds.push_back(from_text(text));
  return seeds;
}

}  // namespace guestscope::fuzz
