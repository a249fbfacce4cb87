// Link: packets both ways over a transport, many at once.
//
// run() performs an exchange: it sends all that the exchange has to send without waiting for
// answers, reads answers as they come, and matches them by order. Writing never waits without
// reading too: QEMU answers with blocking writes and does not read while it waits for us.
//
// Acknowledgements. Without no-ack mode QEMU remembers its last packet until it is acknowledged,
// and meanwhile drops every byte but `$` and `+`, an interrupt included; a `$` acknowledges. But
// while the guest runs, any byte with nothing to acknowledge stops the guest and is swallowed. So a
// `+` is sent exactly when one is due and no `$` follows: before an interrupt, and at once for a
// stop reply that came unasked.
//
// Interrupts. Every exchange with a stopped guest starts with the byte 0x03. A stopped QEMU ignores
// it; but had the guest's owner continued the guest meanwhile, the 0x03 is what stops it, instead
// of the `$` of the first packet, which would be lost and leave all answers one short.
//
// Waiting. Between a stop and the continue after it the guest's processors have nothing to do, and
// every microsecond counts: answers are waited for without sleeping.
//
// Threads: one. Any error breaks the link for good: answers could no longer be matched.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "arch/result.h"
#include "gdbproto/client.h"
#include "gdbproto/packet.h"
#include "gdbproto/transport.h"

namespace guestscope::gdb {

/// What one exchange sends, and what it makes of the answers.
class Exchange {
 public:
  enum class Sent : std::uint8_t {
    kNothing,   ///< there is nothing more to send
    kQuestion,  ///< one packet was appended; one answer will come
    kContinue,  ///< one packet was appended that has no answer, and starts the guest
    kLater,     ///< nothing before on_stopped(), or an answer without it
  };
  virtual ~Exchange() = default;
  /// Appends the next packet to `out`.
  virtual Sent send_next(std::string& out) = 0;
  /// Takes the answer to the oldest open question; true when that was all of it. An error breaks
  /// the link.
  virtual Result<bool> on_answer(std::string_view payload) = 0;
  /// The guest has been stopped by the interrupt before the first packet.
  virtual void on_stopped() {}
  /// All that can be sent now has been: the stub is at work. Called whenever answers are waited
  /// for.
  virtual void on_sent() {}
};

/// One question and its answer's text.
class Query final : public Exchange {
 public:
  explicit Query(std::string question) : question_(std::move(question)) {}
  Sent send_next(std::string& out) override;
  Result<bool> on_answer(std::string_view payload) override;
  const std::string& answer() const { return answer_; }

 private:
  std::string question_;
  bool sent_ = false;
  std::string answer_;
};

class Link {
 public:
  /// What goes before the first packet.
  enum class Lead : std::uint8_t {
    kAck,        ///< `+`: a fresh connection, where QEMU may remember another client's packet
    kInterrupt,  ///< 0x03, and before it the acknowledgement that is due
  };

  explicit Link(std::unique_ptr<Transport> transport);

  Result<void> run(Exchange& exchange, Lead lead, Deadline until);
  /// Reads what is there without blocking; notes stop replies and acknowledges them.
  Result<void> drain();
  /// The answer to QStartNoAckMode was OK: acknowledges that one, and none afterwards.
  Result<void> enter_no_ack_mode();
  /// Acknowledges what is due, without waiting for room: after the answer to `D`.
  void settle();
  /// For a broken link: sends `packets` (already framed) as well as it can, and reads on until that
  /// many "OK" came or it is `until`.
  void last_words(std::string_view packets, int oks, Deadline until);

  /// An interrupt's stop reply came in the last run() before its first answer: the guest had been
  /// running until then.
  bool stopped_by_interrupt() const { return stop_before_answers_; }
  /// Since when the guest has stood still that the last interrupt stopped: see judge_stop().
  Clock::time_point stopped_since() const { return stopped_since_; }
  /// When the last answer came.
  Clock::time_point last_arrival() const { return last_arrival_; }
  /// True once after a stop reply that nobody asked for: the owner paused the guest.
  bool take_unasked_stop() { return std::exchange(unasked_stop_, false); }

  bool broken() const { return cause_.has_value(); }
  /// Every use from now on fails with kUnreachable.
  void give_up(Error cause);
  int fd() const { return transport_->fd(); }
  Counters& counters() { return counters_; }
  const Counters& counters() const { return counters_; }

 private:
  /// How far the exchange under way has come.
  struct Progress {
    std::uint64_t open = 0;  ///< questions without an answer yet
    std::uint64_t answered = 0;
    bool all_made = false;
    bool later = false;  ///< there will be more to send
    bool continued = false;
  };

  Result<void> usable() const;
  void begin(Lead lead);
  Result<void> pump(Exchange& exchange, Deadline until);
  void make_packets(Exchange& exchange);
  void add_interrupt();
  Result<void> write_pending();
  Result<bool> receive(Exchange* exchange);
  Result<void> on_event(const PacketDecoder::Event& event, Exchange* exchange);
  Result<void> on_packet(std::string_view payload, Exchange* exchange);
  Result<void> on_stop_reply(std::string_view payload, Exchange* exchange);
  Result<void> acknowledge();
  void judge_stop();
  bool has_pending() const { return written_ < out_.size(); }

  std::unique_ptr<Transport> transport_;
  PacketDecoder decoder_;
  std::vector<char> in_;
  std::string out_;
  std::size_t written_ = 0;
  Progress progress_;
  Counters counters_;
  bool no_ack_ = false;
  bool ack_due_ = false;
  bool stop_before_answers_ = false;
  bool unasked_stop_ = false;
  Clock::time_point last_arrival_{};
  Clock::time_point interrupted_at_{};
  std::optional<Clock::time_point> stop_seen_at_;
  std::uint64_t answered_at_stop_ = 0;  // answers that came together with the stop reply
  Clock::duration answer_takes_{};      // of late
  Clock::time_point stopped_since_{};
  bool stands_still_ = false;  // between a stop that we asked for and the continue
  std::optional<Error> cause_;
};

}  // namespace guestscope::gdb
