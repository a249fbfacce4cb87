// Registers of several vCPUs, and memory with them, in one exchange.
#include <utility>

#include "gdbproto/client_impl.h"
#include "gdbproto/hex.h"
#include "gdbproto/limits.h"
#include "gdbproto/read_plan.h"

namespace guestscope::gdb {
namespace {

constexpr std::size_t kMaxBytes = 8;

// For each thread `Hg` selects it, `g` makes QEMU fetch its registers, and `p` reads each of those
// wanted that `g` is not known to give; an answer is known by its place. Under KVM, `p` alone gives
// what QEMU last knew, which may be from before the guest booted: of the packets that read, only
// `g` asks the kernel (handle_read_all_regs, cpu_synchronize_state).
class RegisterReads final : public Exchange {
 public:
  RegisterReads(std::span<const ThreadId> threads, std::vector<const Register*> registers,
                GeneralRegisters& general)
      : threads_(threads),
        registers_(std::move(registers)),
        general_(general),
        from_general_(general.has(registers_)) {
    values_.assign(threads.size(), std::vector<std::uint64_t>(registers_.size()));
  }

  Sent send_next(std::string& out) override {
    if (sent_ == threads_.size() * per_thread()) return Sent::kNothing;
    const std::size_t place = sent_ % per_thread();
    const ThreadId& thread = threads_[sent_++ / per_thread()];
    if (place >= kBefore)
      append_packet(out, fmt::format("p{:x}", registers_[place - kBefore]->number));
    else if (place == 1)
      append_packet(out, "g");
    else if (thread.pid == 0)
      append_packet(out, fmt::format("Hg{:x}", thread.tid));
    else
      append_packet(out, fmt::format("Hgp{:x}.{:x}", thread.pid, thread.tid));
    return Sent::kQuestion;
  }

  Result<bool> on_answer(std::string_view payload) override {
    const std::size_t place = received_ % per_thread();
    const std::size_t thread = received_++ / per_thread();
    if (place == 0)
      check_selected(threads_[thread], payload);
    else if (place == 1)
      take_general(payload, values_[thread]);
    else
      check_value(*registers_[place - kBefore], payload, values_[thread][place - kBefore]);
    return true;
  }

  /// `g` has given other registers than before: they have to be asked for one by one.
  bool is_laid_out_otherwise() const { return laid_out_otherwise_; }

  Result<RegisterValues> take() {
    if (refusal_) return std::unexpected(*std::move(refusal_));
    if (!from_general_ && agrees_) general_.trust(general_digits_);
    return std::move(values_);
  }

 private:
  static constexpr std::size_t kBefore = 2;  ///< `Hg` and `g`

  std::size_t per_thread() const { return kBefore + (from_general_ ? 0 : registers_.size()); }

  void check_selected(const ThreadId& thread, std::string_view payload) {
    if (payload == "OK" || refusal_) return;
    refusal_ = Error{.code = ErrorCode::kNotFound,
                     .message = fmt::format("the stub has no thread {} ({})", thread.tid, payload)};
  }

  void take_general(std::string_view payload, std::vector<std::uint64_t>& values) {
    if (from_general_) {
      laid_out_otherwise_ = laid_out_otherwise_ || !general_.is_trusted(payload);
      for (std::size_t i = 0; i < registers_.size() && !laid_out_otherwise_; ++i)
        check_value(*registers_[i], general_.digits_of(*registers_[i], payload), values[i]);
      return;
    }
    general_digits_ = payload.size();
    expected_.clear();
    for (const Register* reg : registers_)
      expected_.emplace_back(general_.digits_of(*reg, payload));
  }

  // Fewer bytes than described are the low ones: QEMU gives control registers of a vCPU that is not
  // in 64-bit mode as 32 bits.
  void check_value(const Register& reg, std::string_view payload, std::uint64_t& value) {
    if (!from_general_) {
      const std::size_t index = (received_ - 1) % per_thread() - kBefore;
      agrees_ = agrees_ && index < expected_.size() && expected_[index] == payload;
    }
    std::array<std::byte, kMaxBytes> bytes{};
    const std::size_t size = payload.size() / 2;
    if (size > 0 && size <= kMaxBytes && decode_hex(payload, std::span(bytes).first(size))) {
      value = load_le(bytes.data(), size);
      return;
    }
    if (refusal_) return;
    refusal_ = Error{.code = ErrorCode::kUnsupported,
                     .message = fmt::format("the stub gives no value for register {} ('{}')",
                                            reg.name, payload.substr(0, 40))};
  }

  std::span<const ThreadId> threads_;
  std::vector<const Register*> registers_;
  GeneralRegisters& general_;
  const bool from_general_;
  bool laid_out_otherwise_ = false;
  bool agrees_ = true;                 // `p` with `g`, for all threads so far
  std::size_t general_digits_ = 0;     // of the last answer to `g`
  std::vector<std::string> expected_;  // what it has of each register
  RegisterValues values_;
  std::optional<Error> refusal_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
};

}  // namespace

Result<Client::Impl::Registers> Client::Impl::find_registers(
    std::span<const std::string_view> names) const {
  Registers found;
  for (const std::string_view wanted : names) {
    const Register* reg = description.find(wanted);
    if (reg == nullptr)
      return fail(ErrorCode::kUnsupported, "the stub's target description has no register {}",
                  wanted);
    if (reg->bits > 8 * kMaxBytes)
      return fail(ErrorCode::kUnsupported, "register {} has {} bits, more than 64", wanted,
                  reg->bits);
    found.push_back(reg);
  }
  return found;
}

Result<RegisterValues> Client::Impl::look_at(const Look& look, Registers wanted,
                                             Sequence::Then then) {
  RegisterReads registers(look.threads, std::move(wanted), general);
  ReadPlan reads(look.reads, ram, most_in_a_read(), kCoalesceGap);
  Query fence{std::string(kFence)};
  std::vector<Exchange*> parts{&registers, &reads};
  if (look.threads.empty() && reads.empty()) parts = {&fence};
  Query last{std::string(kFence)};
  Sequence sequence = look.once_stopped && then == Sequence::Then::kContinue
                          ? Sequence(std::move(parts), look.once_stopped, last)
                          : Sequence(std::move(parts), then);
  if (const auto done = exchange(sequence, reads.total_bytes()); !done) {
    reads.fail_unanswered(done.error());
    return std::unexpected(done.error());
  }
  if (then == Sequence::Then::kStay) retry_refused(look.reads, reads.take_refused_together());
  if (!registers.is_laid_out_otherwise()) return registers.take();
  general.distrust();
  if (then == Sequence::Then::kContinue)
    return fail(ErrorCode::kNotReady, "the vCPU gives its registers otherwise than before");
  GS_ASSIGN(auto again, find_registers(look.names));
  return look_at({.threads = look.threads, .names = look.names, .reads = {}}, std::move(again),
                 then);
}

Result<RegisterValues> Client::Impl::registers(std::span<const ThreadId> threads_asked,
                                               std::span<const std::string_view> names) {
  GS_CHECK(require_stopped());
  GS_ASSIGN(auto wanted, find_registers(names));
  if (threads_asked.empty()) return RegisterValues{};
  return look_at({.threads = threads_asked, .names = names, .reads = {}}, std::move(wanted),
                 Sequence::Then::kStay);
}

Result<RegisterValues> Client::Impl::stop(const Look& look) {
  GS_ASSIGN(auto wanted, find_registers(look.names));
  auto seen = look_at(look, std::move(wanted), Sequence::Then::kStay);
  if (stopped || link.broken()) return seen;
  // The interrupt leads, the questions follow in the same write: whether a stop reply comes before
  // the first answer tells whose stop it was.
  stopped = true;
  if (!held) run_state = RunState::kPaused;
  return seen;
}

Result<RegisterValues> Client::Impl::glance(const Look& look) {
  GS_CHECK(poll_idle());
  if (stopped) return fail(ErrorCode::kInvalidArgument, "the guest is stopped already");
  if (!can_glance()) return fail(ErrorCode::kNotReady, "the guest's owner has paused it");
  GS_ASSIGN(auto wanted, find_registers(look.names));
  auto seen = look_at(look, std::move(wanted), Sequence::Then::kContinue);
  if (link.broken()) return seen;
  held = false;
  if (link.stopped_by_interrupt()) return seen;
  if (!look.once_stopped) GS_CHECK(pause_again());
  run_state = RunState::kPaused;
  return seen;
}

// It was not us who stopped the guest that we have continued: its owner had, and nothing told us.
Result<void> Client::Impl::pause_again() {
  Query fence{std::string(kFence)};
  GS_CHECK(exchange(fence));
  held = false;
  return {};
}

}  // namespace guestscope::gdb
