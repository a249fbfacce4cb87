#include "gdbproto/link.h"

#include <algorithm>
#include <span>
#include <utility>

#include "gdbproto/hex.h"
#include "gdbproto/limits.h"

namespace guestscope::gdb {
namespace {

constexpr char kInterruptByte = '\x03';

// "T05thread:01;" or "S05". No answer to any question of ours looks like that: memory and
// registers are lower-case digits, and texts are asked for in hexadecimal.
bool is_stop_reply(std::string_view payload) {
  return payload.size() >= 3 && (payload[0] == 'T' || payload[0] == 'S') && is_hex(payload[1]) &&
         is_hex(payload[2]);
}

// What a 0x03 makes: SIGINT. An I/O error, a watchdog or a shutdown stop the guest with others.
bool is_of_interrupt(std::string_view stop_reply) { return stop_reply.substr(1, 2) == "02"; }

// "W00", "X09": QEMU says goodbye.
bool is_exit(std::string_view payload) {
  return payload.size() >= 3 && (payload[0] == 'W' || payload[0] == 'X') && is_hex(payload[1]) &&
         is_hex(payload[2]);
}

}  // namespace

Exchange::Sent Query::send_next(std::string& out) {
  if (std::exchange(sent_, true)) return Sent::kNothing;
  append_packet(out, question_);
  return Sent::kQuestion;
}

Result<bool> Query::on_answer(std::string_view payload) {
  answer_ = payload;
  return true;
}

Link::Link(std::unique_ptr<Transport> transport)
    : transport_(std::move(transport)), decoder_(kMaxPayload), in_(kReadChunk) {}

Result<void> Link::usable() const {
  if (!cause_) return {};
  return fail(ErrorCode::kUnreachable, "the connection to the stub was given up: {}",
              cause_->message);
}

void Link::give_up(Error cause) {
  if (!cause_) cause_ = std::move(cause);
}

Result<void> Link::run(Exchange& exchange, Lead lead, Deadline until) {
  GS_CHECK(usable());
  begin(lead);
  Result<void> done;
  try {
    done = pump(exchange, until);
  } catch (const std::exception& error) {  // allocation; what the exchange calls
    give_up({.code = ErrorCode::kSystem, .message = error.what()});
    throw;
  }
  if (!done) {
    give_up(done.error());
    return done;
  }
  if (progress_.answered > 0) ++counters_.round_trips;
  if (stop_before_answers_) judge_stop();
  if (progress_.continued) stands_still_ = false;
  return {};
}

void Link::begin(Lead lead) {
  progress_ = {};
  stop_before_answers_ = false;
  out_.clear();
  written_ = 0;
  interrupted_at_ = Clock::now();
  if (lead == Lead::kInterrupt) return add_interrupt();
  if (!no_ack_) out_ += '+';
  ack_due_ = false;
}

void Link::add_interrupt() {
  if (!no_ack_ && ack_due_) out_ += '+';
  out_ += kInterruptByte;
  ack_due_ = false;
}

// Between the interrupt and its stop reply, QEMU waits for a processor and for its vCPUs, and the
// guest runs, at least in part: on a busy host for a hundred times as long as it stands still. The
// kernel tells when the reply came. Where answers had come with it, the time is the last one's, and
// the others took about as long as those that followed. Few of these tell little, for one that is
// late counts for many: what answers have taken of late, doubled to be sure, is the most.
void Link::judge_stop() {
  stopped_since_ = interrupted_at_;
  if (!stop_seen_at_) return;
  const auto with_it = static_cast<Clock::rep>(answered_at_stop_);
  const auto later = static_cast<Clock::rep>(progress_.answered) - with_it;
  const bool known = answer_takes_ > answer_takes_.zero();
  Clock::duration each = 2 * answer_takes_;
  if (later > 0) {
    const Clock::duration took = (last_arrival_ - *stop_seen_at_) / later;
    each = known && later < with_it ? std::min(took, each) : took;
    if (!known)
      answer_takes_ = took;
    else if (later >= with_it)
      answer_takes_ = (7 * answer_takes_ + std::min(took, 2 * answer_takes_)) / 8;
  }
  if (each > each.zero() || with_it == 0)
    stopped_since_ = std::max(interrupted_at_, *stop_seen_at_ - each * with_it);
}

Result<void> Link::pump(Exchange& exchange, Deadline until) {
  while (true) {
    if (!has_pending()) make_packets(exchange);
    GS_CHECK(write_pending());
    if (progress_.all_made && !has_pending() && progress_.open == 0) return {};
    // Checked here too, since a peer that trickles bytes never lets wait() run out.
    if (Clock::now() >= until) return fail(ErrorCode::kTimeout, "the stub did not answer in time");
    if (!has_pending() && !progress_.all_made && !progress_.later) continue;
    exchange.on_sent();
    GS_CHECK(transport_->wait(has_pending(), stands_still_, until));
    GS_CHECK(receive(&exchange));
  }
}

void Link::make_packets(Exchange& exchange) {
  if (written_ > 0) out_.clear();
  written_ = 0;
  // What follows may find that the owner has continued the guest, as any exchange may.
  if (std::exchange(progress_.later, false) && stop_before_answers_) add_interrupt();
  while (!progress_.all_made && !progress_.later && out_.size() < kWriteChunk) {
    switch (exchange.send_next(out_)) {
      case Exchange::Sent::kNothing: progress_.all_made = true; break;
      case Exchange::Sent::kLater: progress_.later = true; break;
      case Exchange::Sent::kContinue: progress_.continued = true; [[fallthrough]];
      case Exchange::Sent::kQuestion:
        progress_.open += progress_.continued ? 0 : 1;
        ++counters_.packets_sent;
        break;
    }
  }
}

Result<void> Link::write_pending() {
  while (has_pending()) {
    GS_ASSIGN(const std::size_t n, transport_->write_some(std::string_view(out_).substr(written_)));
    written_ += n;
    counters_.bytes_sent += n;
    if (n == 0) break;
  }
  return {};
}

// One chunk of input; false when there was none.
Result<bool> Link::receive(Exchange* exchange) {
  GS_ASSIGN(const std::size_t n, transport_->read_some(in_));
  counters_.bytes_received += n;
  const bool stop_seen = stop_before_answers_;
  const auto arrival = transport_->arrived();
  if (n > 0) last_arrival_ = arrival.value_or(Clock::now());
  std::string_view input(in_.data(), n);
  while (const auto event = decoder_.next(input)) GS_CHECK(on_event(*event, exchange));
  if (stop_before_answers_ && !stop_seen) {
    stop_seen_at_ = arrival;
    answered_at_stop_ = progress_.answered;
  }
  return n > 0;
}

Result<void> Link::on_event(const PacketDecoder::Event& event, Exchange* exchange) {
  switch (event.kind) {
    case PacketDecoder::EventKind::kPacket: return on_packet(event.payload, exchange);
    case PacketDecoder::EventKind::kAck: return {};
    // Sockets do not damage bytes: someone at the other end does not speak the protocol. Asking to
    // send again would not do either, for a stub sends its last packet again, not this one.
    case PacketDecoder::EventKind::kNak:
      return fail(ErrorCode::kProtocol, "the stub rejected a packet");
    case PacketDecoder::EventKind::kBadChecksum:
      return fail(ErrorCode::kProtocol, "an answer of the stub has a wrong checksum");
    case PacketDecoder::EventKind::kBadPacket:
      return fail(ErrorCode::kProtocol, "an answer of the stub is too long or malformed");
  }
  return {};
}

Result<void> Link::on_packet(std::string_view payload, Exchange* exchange) {
  ++counters_.packets_received;
  ack_due_ = !no_ack_;
  if (is_stop_reply(payload)) return on_stop_reply(payload, exchange);
  if (is_exit(payload)) return fail(ErrorCode::kUnreachable, "the virtual machine has ended");
  if (exchange == nullptr || progress_.open == 0)
    return fail(ErrorCode::kProtocol, "the stub answered what was not asked: '{}'",
                payload.substr(0, 40));
  GS_ASSIGN(const bool complete, exchange->on_answer(payload));
  if (!complete) return {};
  --progress_.open;
  ++progress_.answered;
  // The `$` of the continue that follows the last question acknowledges the last answer.
  if (progress_.continued && progress_.open == 0) ack_due_ = false;
  return {};
}

Result<void> Link::on_stop_reply(std::string_view payload, Exchange* exchange) {
  if (exchange != nullptr && progress_.answered == 0 && progress_.open > 0) {
    stop_before_answers_ = stands_still_ = is_of_interrupt(payload);
    if (stop_before_answers_) exchange->on_stopped();
    return {};
  }
  if (exchange == nullptr || (progress_.open == 0 && !progress_.later)) {
    unasked_stop_ = true;
    return acknowledge();
  }
  return fail(ErrorCode::kProtocol,
              "the guest was continued by its owner in the middle of an exchange");
}

// Only called when the stub has an unacknowledged packet, so that the byte cannot stop the guest.
Result<void> Link::acknowledge() {
  if (!ack_due_ || has_pending()) return {};
  GS_ASSIGN(const std::size_t n, transport_->write_some("+"));
  counters_.bytes_sent += n;
  if (n == 1) ack_due_ = false;
  return {};
}

void Link::settle() {
  if (const auto sent = acknowledge(); !sent) give_up(sent.error());
}

Result<void> Link::drain() {
  GS_CHECK(usable());
  while (true) {
    const auto more = receive(nullptr);
    if (!more) {
      give_up(more.error());
      return std::unexpected(more.error());
    }
    if (!*more) return {};
  }
}

Result<void> Link::enter_no_ack_mode() {
  auto sent = acknowledge();
  if (!sent) give_up(sent.error());
  no_ack_ = true;
  ack_due_ = false;
  return sent;
}

void Link::last_words(std::string_view packets, int oks, Deadline until) {
  std::string out;
  // A packet that was cut off would swallow what follows: end it, with a checksum that is wrong.
  if (has_pending()) out += "#00";
  if (!no_ack_) out += '+';
  out += kInterruptByte;
  out += packets;
  std::string_view rest = out;
  while (Clock::now() < until && (oks > 0 || !rest.empty())) {
    const auto n = transport_->write_some(rest);
    if (!n) return;
    rest.remove_prefix(*n);
    if (!transport_->wait(!rest.empty(), false, until)) return;
    const auto got = transport_->read_some(in_);
    if (!got) return;
    std::string_view input(in_.data(), *got);
    while (const auto event = decoder_.next(input))
      if (event->payload == "OK") --oks;
  }
}

}  // namespace guestscope::gdb
