// The packet layer: `$payload#checksum`, escapes, run lengths, acknowledgements.
//
// append_packet() writes one; PacketDecoder reads a byte stream that may hold anything. Damage is
// an event and never the end: after a bad checksum, an overlong packet or garbage the decoder goes
// on at the next `$`. Its memory is bounded by the limit given to it, and each input byte costs a
// bounded amount of work (a run length adds at most 97 bytes, and never beyond the limit).
//
// Source of truth: gdb manual, «Overview» of the Remote Serial Protocol.
// Threads: none of its own; never blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace guestscope::gdb {

/// The sum of the bytes modulo 256, as it stands on the wire (escapes included).
std::uint8_t checksum(std::string_view wire);

/// Appends `payload` as one packet, escaping `$`, `#`, `}` and `*`.
void append_packet(std::string& out, std::string_view payload);

class PacketDecoder {
 public:
  enum class EventKind : std::uint8_t {
    kPacket,       ///< a payload; valid until the next call
    kAck,          ///< `+` between packets
    kNak,          ///< `-` between packets
    kBadChecksum,  ///< a packet that was damaged
    kBadPacket,    ///< too long, or a run length or checksum that means nothing
  };
  struct Event {
    EventKind kind;
    std::string_view payload{};
  };

  explicit PacketDecoder(std::size_t max_payload);

  /// Takes bytes off the front of `input` up to the end of the next event; empty, with all of
  /// `input` taken, when more is needed.
  std::optional<Event> next(std::string_view& input);

 private:
  enum class State : std::uint8_t { kIdle, kPayload, kEscape, kRun, kChecksumHigh, kChecksumLow };

  std::optional<EventKind> step(char c);
  std::optional<EventKind> between_packets(char c);
  std::optional<EventKind> in_payload(char c);
  std::optional<EventKind> expand_run(char c);
  std::optional<EventKind> finish(char c);
  std::optional<EventKind> append(char c);
  std::optional<EventKind> damaged();
  void begin(bool notification);
  void take_plain(std::string_view& input);

  std::size_t max_payload_;
  std::string payload_;
  State state_ = State::kIdle;
  bool notification_ = false;
  std::uint8_t sum_ = 0;
  std::uint8_t expected_ = 0;
};

}  // namespace guestscope::gdb
