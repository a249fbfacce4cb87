#include "gdbproto/client.h"

#include <utility>

#include "gdbproto/client_impl.h"
#include "gdbproto/hex.h"
#include "gdbproto/limits.h"
#include "gdbproto/mtree.h"
#include "gdbproto/read_plan.h"

namespace guestscope::gdb {
namespace {

// qRcmd: text comes in any number of O packets, then OK.
class MonitorCommand final : public Exchange {
 public:
  explicit MonitorCommand(std::string_view command) : question_("qRcmd," + text_to_hex(command)) {}

  Sent send_next(std::string& out) override {
    if (std::exchange(sent_, true)) return Sent::kNothing;
    append_packet(out, question_);
    return Sent::kQuestion;
  }

  Result<bool> on_answer(std::string_view payload) override {
    if (payload == "OK") return true;
    if (!payload.starts_with('O')) {
      refusal_ = payload.empty() ? "not supported" : payload;
      return true;
    }
    const auto text = hex_to_text(payload.substr(1));
    if (!text) return fail(ErrorCode::kProtocol, "a monitor's answer is not hexadecimal");
    if (text->size() > kMaxMonitorText - text_.size())
      return fail(ErrorCode::kProtocol, "a monitor's answer exceeds {} bytes", kMaxMonitorText);
    for (const char c : *text)
      if (c != '\r' && c != '\0') text_ += c;
    return false;
  }

  Result<std::string> take() {
    if (!refusal_.empty())
      return fail(ErrorCode::kUnsupported, "the stub refused a monitor command: {}", refusal_);
    return std::move(text_);
  }

 private:
  std::string question_;
  std::string text_;
  std::string refusal_;
  bool sent_ = false;
};

}  // namespace

Client::Impl::Impl(std::unique_ptr<Transport> transport, std::string stub_name,
                   const Options& wanted)
    : link(std::move(transport)),
      name(std::move(stub_name)),
      options(wanted),
      packet_size_(kDefaultPacketSize) {}

Result<void> Client::Impl::require_stopped() const {
  if (stopped) return {};
  return fail(ErrorCode::kInvalidArgument, "the guest runs: stop() it first");
}

Result<void> Client::Impl::exchange(Exchange& exchange, std::uint64_t bytes) {
  constexpr std::uint64_t kBytesPerSecond = std::uint64_t{4} << 20;
  const auto more = std::chrono::milliseconds(bytes / (kBytesPerSecond / 1000));
  // In this order: a stop reply that is there already was not caused by our interrupt, and one that
  // comes after a continue is later than the interrupt's.
  GS_CHECK(poll_idle());
  GS_CHECK(link.run(exchange, Link::Lead::kInterrupt, Clock::now() + options.timeout + more));
  note_interrupt();
  note_foreign_stop();
  return {};
}

// A stop reply before the first answer: the guest ran until our interrupt. When we thought it
// stopped, its owner had continued it; either way it is now ours to continue.
void Client::Impl::note_interrupt() {
  if (!link.stopped_by_interrupt()) return;
  ++link.counters().stops;
  held = true;
  run_state = RunState::kRunning;
}

void Client::Impl::note_foreign_stop() {
  if (!link.take_unasked_stop()) return;
  held = false;
  run_state = RunState::kPaused;
}

Result<void> Client::Impl::ask_ok(const std::string& question) {
  Query query(question);
  GS_CHECK(exchange(query));
  if (query.answer() == "OK") return {};
  return fail(ErrorCode::kUnsupported, "the stub answered '{}' to {}", query.answer().substr(0, 40),
              question);
}

Result<void> Client::Impl::stop() {
  if (stopped) return poll_idle();
  GS_CHECK(stop(Look{}));
  return {};
}

Result<void> Client::Impl::resume() {
  if (!stopped) return poll_idle();
  if (!held) {
    stopped = false;
    return poll_idle();
  }
  Query fence{std::string(kFence)};
  Sequence fence_and_continue({&fence}, Sequence::Then::kContinue);
  GS_CHECK(exchange(fence_and_continue));
  stopped = false;
  held = false;
  return {};
}

Result<void> Client::Impl::poll_idle() {
  GS_CHECK(link.drain());
  note_foreign_stop();
  return {};
}

Result<std::string> Client::Impl::monitor(std::string_view command) {
  GS_CHECK(require_stopped());
  // One packet, in hexadecimal, after "qRcmd," and within the framing.
  if (command.size() > packet_size_ / 2 - 8)
    return fail(ErrorCode::kInvalidArgument, "a monitor command of {} bytes", command.size());
  MonitorCommand plan(command);
  GS_CHECK(exchange(plan));
  return plan.take();
}

Result<void> Client::Impl::refresh_ram() {
  GS_ASSIGN(const std::string text, monitor("info mtree -f"));
  GS_ASSIGN(ram, parse_mtree(text));
  return {};
}

void Client::Impl::read_physical(std::span<PhysRead> reads, const std::function<void()>& work) {
  ReadPlan plan(reads, ram, most_in_a_read(), kCoalesceGap);
  plan.set_work(work);
  if (plan.empty()) return;
  auto ready = require_stopped();
  if (ready) ready = exchange(plan, plan.total_bytes());
  if (!ready) return plan.fail_unanswered(ready.error());
  retry_refused(reads, plan.take_refused_together());
}

// One unreadable byte must not cost its neighbours: those that shared a refused packet are read
// again, each by itself. QEMU never refuses a physical read, so this is for other stubs.
void Client::Impl::retry_refused(std::span<PhysRead> reads, std::vector<std::size_t> refused) {
  if (refused.empty()) return;
  ReadPlan plan(reads, ram, most_in_a_read(), std::move(refused));
  const auto done = exchange(plan, plan.total_bytes());
  if (!done) plan.fail_unanswered(done.error());
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Client::~Client() { static_cast<void>(detach()); }

Result<std::unique_ptr<Client>> Client::attach(const StubAddress& address, const Options& options) {
  GS_ASSIGN(auto transport, connect_to(address, Clock::now() + options.connect_timeout));
  return attach_over(std::move(transport), address.to_string(), options);
}

Result<std::unique_ptr<Client>> Client::attach_over(std::unique_ptr<Transport> transport,
                                                    std::string name, const Options& options) {
  // The client exists before it is attached, so that a failure half-way leaves properly.
  std::unique_ptr<Client> client(
      new Client(std::make_unique<Impl>(std::move(transport), std::move(name), options)));
  GS_CHECK(client->impl_->attach());
  return client;
}

std::span<const ThreadId> Client::threads() const { return impl_->threads; }
std::string_view Client::architecture() const { return impl_->description.architecture(); }
std::string_view Client::qemu_version() const { return impl_->version; }
const RamMap& Client::ram() const { return impl_->ram; }
bool Client::has_register(std::string_view name) const {
  return impl_->description.find(name) != nullptr;
}
Result<void> Client::stop() { return impl_->stop(); }
Result<void> Client::resume() { return impl_->resume(); }
bool Client::held() const { return impl_->stopped && impl_->held; }
bool Client::stopped() const { return impl_->stopped; }
RunState Client::run_state() const { return impl_->run_state; }
Result<RegisterValues> Client::stop(const Look& look) { return impl_->stop(look); }
Result<RegisterValues> Client::glance(const Look& look) { return impl_->glance(look); }
bool Client::can_glance() const { return impl_->can_glance(); }
Result<RegisterValues> Client::registers(std::span<const ThreadId> threads,
                                         std::span<const std::string_view> names) {
  return impl_->registers(threads, names);
}
void Client::read_physical(std::span<PhysRead> reads, const std::function<void()>& work) {
  bool due = static_cast<bool>(work);
  const auto once = [&] {
    if (std::exchange(due, false)) work();
  };
  impl_->read_physical(reads, once);
  once();
}
Result<std::string> Client::monitor(std::string_view command) { return impl_->monitor(command); }
Result<void> Client::refresh_ram() { return impl_->refresh_ram(); }
int Client::fd() const { return impl_->link.fd(); }
Result<void> Client::poll_idle() { return impl_->poll_idle(); }
Result<void> Client::detach() { return impl_->detach(); }
Clock::time_point Client::stopped_since() const { return impl_->link.stopped_since(); }
Clock::time_point Client::last_answer_at() const { return impl_->link.last_arrival(); }
Counters Client::counters() const { return impl_->link.counters(); }

}  // namespace guestscope::gdb
