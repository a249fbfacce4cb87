#include "gdbproto/packet.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gdbproto/hex.h"

namespace guestscope::gdb {
namespace {

using Kind = PacketDecoder::EventKind;

struct Seen {
  Kind kind;
  std::string payload;
  bool operator==(const Seen&) const = default;
};

std::vector<Seen> feed(PacketDecoder& decoder, std::string_view bytes) {
  std::vector<Seen> seen;
  while (const auto event = decoder.next(bytes))
    seen.push_back({event->kind, std::string(event->payload)});
  return seen;
}

std::vector<Seen> decode(std::string_view bytes, std::size_t limit = 64) {
  PacketDecoder decoder(limit);
  return feed(decoder, bytes);
}

std::string packet(std::string_view payload) {
  std::string out;
  append_packet(out, payload);
  return out;
}

const Seen kAck{Kind::kAck, ""};
const Seen kBad{Kind::kBadPacket, ""};
Seen good(std::string payload) { return {Kind::kPacket, std::move(payload)}; }

TEST_CASE("a packet is a dollar, the payload, a hash and two digits") {
  CHECK(packet("qC") == "$qC#b4");
  CHECK(packet("") == "$#00");
  CHECK(packet("m1000,40") == "$m1000,40#be");
}

TEST_CASE("the four special bytes are escaped, and come back") {
  CHECK(packet("a}b") == "$a}]b#9d");
  const std::string all = "$#}*";
  CHECK(decode(packet(all)) == std::vector{good(all)});
}

TEST_CASE("every byte value survives the wire") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  CHECK(decode(packet(all), 256) == std::vector{good(all)});
}

TEST_CASE("a packet cut off anywhere gives nothing, and the rest of it completes it") {
  const std::string whole = packet("T05}x*!;");
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    CAPTURE(cut);
    PacketDecoder decoder(64);
    CHECK(feed(decoder, whole.substr(0, cut)).empty());
    CHECK(feed(decoder, whole.substr(cut)) == std::vector{good("T05}x*!;")});
  }
}

TEST_CASE("run lengths expand") {
  // "0* " is a zero and three more of it.
  CHECK(decode("$0* #7a") == std::vector{good("0000")});
  CHECK(decode("$x*~#20", 98) == std::vector{good(std::string(98, 'x'))});
}

TEST_CASE("a run length bomb stops at the limit and costs nothing more") {
  std::string bomb = "$x";
  for (int i = 0; i < 100000; ++i) bomb += "*~";
  const auto seen = decode(bomb + "#00" + packet("OK"), 4096);
  REQUIRE(seen.size() == 2);
  CHECK(seen[0] == kBad);
  CHECK(seen[1] == good("OK"));
}

TEST_CASE("a run length without a byte before it, or with a count that is none, is damage") {
  CHECK(decode("$* #4a" + packet("OK")) == std::vector{kBad, good("OK")});
  CHECK(decode("$x*\x1f#c1" + packet("OK")) == std::vector{kBad, good("OK")});
  CHECK(decode("$x*#c1" + packet("OK")) == std::vector{kBad, good("OK")});
}

TEST_CASE("a wrong checksum is an event, and the next packet is read") {
  CHECK(decode("$OK#00" + packet("OK")) == std::vector{Seen{Kind::kBadChecksum, ""}, good("OK")});
}

TEST_CASE("a checksum that is not hexadecimal is damage") {
  CHECK(decode("$OK#g0" + packet("OK")) == std::vector{kBad, good("OK")});
  CHECK(decode("$OK#9z" + packet("OK")) == std::vector{kBad, good("OK")});
}

TEST_CASE("a payload of exactly the limit passes, one more byte does not") {
  CHECK(decode(packet(std::string(64, 'a'))) == std::vector{good(std::string(64, 'a'))});
  CHECK(decode(packet(std::string(65, 'a')) + packet("OK")) == std::vector{kBad, good("OK")});
}

TEST_CASE("a dollar inside a packet begins the next one, wherever it stands") {
  for (const char* cut : {"$m12", "$m}", "$m*", "$m#", "$m#6"}) {
    CAPTURE(cut);
    CHECK(decode(cut + packet("OK")) == std::vector{kBad, good("OK")});
  }
}

TEST_CASE("acknowledgements are seen between packets only") {
  CHECK(decode("+" + packet("+-") + "-") == std::vector{kAck, good("+-"), Seen{Kind::kNak, ""}});
}

TEST_CASE("notifications are passed over, good or bad") {
  CHECK(decode("%Stop:T05#00" + packet("OK")) == std::vector{good("OK")});
  CHECK(decode("%Stop" + packet("OK")) == std::vector{good("OK")});
  CHECK(decode("%" + std::string(100, 'x') + "#00" + packet("OK")) == std::vector{good("OK")});
}

TEST_CASE("garbage between packets is skipped") {
  CHECK(decode("HTTP/1.1 400\r\n\x03#41" + packet("OK")) == std::vector{good("OK")});
}

TEST_CASE("random bytes never break the decoder, and a good packet after them is read") {
  std::mt19937 random(7);
  const std::string alphabet = "$#}*+-%0aZ\x03~ ";
  for (int round = 0; round < 2000; ++round) {
    PacketDecoder decoder(32);
    std::string noise;
    for (int i = 0; i < 60; ++i) noise += alphabet[random() % alphabet.size()];
    for (const Seen& seen : feed(decoder, noise)) REQUIRE(seen.payload.size() <= 32);
    const auto after = feed(decoder, packet("OK"));
    REQUIRE(!after.empty());
    REQUIRE(after.back() == good("OK"));
  }
}

TEST_CASE("hexadecimal is decoded whole or refused") {
  std::array<std::byte, 2> bytes{};
  CHECK(decode_hex("0aF9", bytes));
  CHECK(bytes[0] == std::byte{0x0a});
  CHECK(bytes[1] == std::byte{0xf9});
  for (const char* bad : {"", "0", "0a", "0aF", "0aFg", "0a F", "0aF900", "-aF9"}) {
    CAPTURE(bad);
    CHECK_FALSE(decode_hex(bad, bytes));
  }
  CHECK(parse_hex("ffffffffffffffff") == 0xffffffffffffffffU);
  CHECK_FALSE(parse_hex("10000000000000000"));
  CHECK_FALSE(parse_hex("0x1"));
  CHECK_FALSE(parse_hex(""));
}

}  // namespace
}  // namespace guestscope::gdb
