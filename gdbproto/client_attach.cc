// Attaching, step by step, and leaving.
#include <charconv>
#include <utility>

#include "gdbproto/client_impl.h"
#include "gdbproto/hex.h"
#include "gdbproto/limits.h"
#include "gdbproto/mtree.h"

namespace guestscope::gdb {
namespace {

// The value of "PacketSize=1000" in "a+;PacketSize=1000;b+"; for "a+" the text "+".
std::optional<std::string_view> feature(std::string_view features, std::string_view name) {
  while (!features.empty()) {
    const std::size_t end = features.find(';');
    std::string_view one = features.substr(0, end);
    features.remove_prefix(end == std::string_view::npos ? features.size() : end + 1);
    if (!one.starts_with(name)) continue;
    one.remove_prefix(name.size());
    if (one == "+") return one;
    if (one.starts_with('=')) return one.substr(1);
  }
  return std::nullopt;
}

// "1" or, when the stub speaks of processes, "p1.1".
std::optional<ThreadId> parse_thread(std::string_view text) {
  ThreadId thread;
  if (text.starts_with('p')) {
    const std::size_t dot = text.find('.');
    const auto pid = parse_hex(text.substr(1, dot == std::string_view::npos ? dot : dot - 1));
    if (dot == std::string_view::npos || !pid || *pid == 0 || *pid > UINT32_MAX)
      return std::nullopt;
    thread.pid = static_cast<std::uint32_t>(*pid);
    text.remove_prefix(dot + 1);
  }
  const auto tid = parse_hex(text);
  if (!tid || *tid == 0 || *tid > UINT32_MAX) return std::nullopt;
  thread.tid = static_cast<std::uint32_t>(*tid);
  return thread;
}

// A comma-separated part of the list.
bool add_threads(std::string_view list, std::vector<ThreadId>& threads) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const auto thread = parse_thread(list.substr(0, comma));
    if (!thread || threads.size() == kMaxThreads) return false;
    threads.push_back(*thread);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
  return true;
}

// QEMU 8.1 stopped sending stop replies that were not asked for («gdbstub: only send stop-reply
// packets when allowed to»). A version that cannot be read is taken for a newer one.
bool tells_of_stop_at_attach(std::string_view version) {
  unsigned major = 0;
  unsigned minor = 0;
  const char* end = version.data() + version.size();
  const auto first = std::from_chars(version.data(), end, major);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '.') return false;
  const auto second = std::from_chars(first.ptr + 1, end, minor);
  return second.ec == std::errc{} && (major < 8 || (major == 8 && minor < 1));
}

std::string first_line(std::string text) {
  text.resize(std::min(text.find('\n'), text.size()));
  return text;
}

}  // namespace

Result<void> Client::Impl::attach() {
  GS_CHECK(greet());
  GS_CHECK(require_qemu());
  GS_CHECK(list_threads());
  GS_ASSIGN(std::string text, monitor("info version"));
  version = first_line(std::move(text));
  GS_CHECK(judge_run_state());
  GS_CHECK(load_description());
  GS_CHECK(use_physical_memory());
  return refresh_ram();
}

Result<void> Client::Impl::greet() {
  Query query("qSupported:xmlRegisters=i386");
  const auto done = link.run(query, Link::Lead::kAck, Clock::now() + options.connect_timeout);
  if (!done) {
    Error error = done.error();
    if (error.code == ErrorCode::kTimeout)
      error.message = fmt::format(
          "stub at {} accepted the connection but says nothing; is another client attached?", name);
    return std::unexpected(std::move(error));
  }
  // QEMU up to 8.0 tells of the stop that attaching caused; such a guest was running.
  stop_at_attach_ = link.stopped_by_interrupt();
  return negotiate(query.answer());
}

Result<void> Client::Impl::negotiate(std::string_view features) {
  if (const auto text = feature(features, "PacketSize")) {
    const auto size = parse_hex(*text);
    if (!size || *size < kMinPacketSize)
      return fail(ErrorCode::kProtocol, "stub at {} names the packet size '{}'", name, *text);
    packet_size_ = static_cast<std::size_t>(std::min<std::uint64_t>(*size, kMaxPayload));
  }
  if (!feature(features, "QStartNoAckMode")) return {};
  Query query("QStartNoAckMode");
  GS_CHECK(exchange(query));
  return query.answer() == "OK" ? link.enter_no_ack_mode() : Result<void>{};
}

Result<void> Client::Impl::require_qemu() {
  Query mode("qqemu.PhyMemMode");
  GS_CHECK(exchange(mode));
  if (mode.answer() != "0" && mode.answer() != "1")
    return fail(ErrorCode::kUnsupported,
                "stub at {} is not QEMU's: it does not know qemu.PhyMemMode", name);
  is_qemu_ = true;
  return {};
}

Result<void> Client::Impl::list_threads() {
  for (const char* question = "qfThreadInfo";; question = "qsThreadInfo") {
    Query query(question);
    GS_CHECK(exchange(query));
    const std::string_view answer = query.answer();
    if (answer == "l" && !threads.empty()) return {};
    // An empty part would let a hostile stub go on for ever.
    if (answer.size() < 2 || answer[0] != 'm' || !add_threads(answer.substr(1), threads))
      return fail(ErrorCode::kProtocol, "stub at {} has no usable thread list: '{}'", name,
                  answer.substr(0, 80));
  }
}

// Was the guest running before we attached, and is it ours to continue? README.md has the rule.
Result<void> Client::Impl::judge_run_state() {
  GS_ASSIGN(const std::string text, monitor("info status"));
  const std::string status = first_line(text);
  const bool plainly_paused = status.ends_with(": paused");
  const bool unsure = plainly_paused && !tells_of_stop_at_attach(version);
  held = stop_at_attach_ || (unsure && options.assume_running) ||
         (plainly_paused && options.guest_was_held) ||
         (status.ends_with("(prelaunch)") && options.start_waiting);
  run_state = held ? RunState::kRunning : RunState::kPaused;
  if (held) ++link.counters().stops;
  judged_ = true;
  return {};
}

Result<void> Client::Impl::load_description() {
  GS_ASSIGN(description, TargetDescription::load([this](const std::string& document) {
              return fetch_document(document);
            }));
  general = GeneralRegisters(description);
  return {};
}

Result<std::string> Client::Impl::fetch_document(const std::string& document) {
  if (document.empty() || document.find_first_of(":/;#$") != std::string::npos)
    return fail(ErrorCode::kProtocol, "target description: '{}' is no document's name",
                document.substr(0, 80));
  std::string text;
  while (true) {
    Query query(
        fmt::format("qXfer:features:read:{}:{:x},{:x}", document, text.size(), packet_size_ - 5));
    GS_CHECK(exchange(query));
    const std::string& part = query.answer();
    if (!part.starts_with('m') && !part.starts_with('l'))
      return fail(ErrorCode::kUnsupported, "the stub has no target description ({}: '{}')",
                  document, part.substr(0, 40));
    text.append(part, 1);
    if (part[0] == 'l') return text;
    if (part.size() == 1 || text.size() > kMaxDocument)
      return fail(ErrorCode::kProtocol, "target description: {} has no end", document);
  }
}

// Read back, because a stub that takes the setting for an unknown one would have us read virtual
// addresses and believe them physical.
Result<void> Client::Impl::use_physical_memory() {
  GS_CHECK(ask_ok("Qqemu.PhyMemMode:1"));
  Query mode("qqemu.PhyMemMode");
  GS_CHECK(exchange(mode));
  if (mode.answer() == "1") return {};
  return fail(ErrorCode::kUnsupported, "stub at {} did not switch to physical memory", name);
}

// With `multiprocess`, which an earlier client may have left on, a plain D gets E22 and leaves the
// guest stopped; QEMU ignores a process id that it does not expect. Its first process is 1.
std::string Client::Impl::detach_packet() const {
  if (!threads.empty() && threads.front().pid != 0)
    return fmt::format("D;{:x}", threads.front().pid);
  return is_qemu_ || !link.broken() ? "D" : "D;1";
}

// `D` continues the guest, whoever paused it: so a guest that is its owner's to continue is left by
// closing the connection, which changes nothing. While it is not known whose it is (attaching
// failed early), a guest that runs and should not is the lesser evil.
Result<void> Client::Impl::detach() {
  if (link.broken()) {
    leave_broken();
    return {};
  }
  auto done = stop();
  if (done && is_qemu_) done = ask_ok("Qqemu.PhyMemMode:0");
  if (!link.broken() && (held || !judged_)) {
    const auto left = ask_ok(detach_packet());
    if (done) done = left;
  }
  if (!link.broken()) link.settle();
  if (link.broken()) leave_broken();
  left_ = true;
  link.give_up(Error{.code = ErrorCode::kUnreachable, .message = "detached"});
  return done;
}

// The connection is out of step, but the guest may be waiting for us: say what is needed without
// understanding answers. Once only, for a second D without a guest to detach from crashes QEMU 7.2.
void Client::Impl::leave_broken() {
  if (std::exchange(left_, true)) return;
  std::string packets;
  if (is_qemu_) append_packet(packets, "Qqemu.PhyMemMode:0");
  const bool continues = !judged_ || run_state == RunState::kRunning || held;
  if (continues) append_packet(packets, detach_packet());
  const int oks = (is_qemu_ ? 1 : 0) + (continues ? 1 : 0);
  link.last_words(packets, oks, Clock::now() + options.detach_timeout);
}

}  // namespace guestscope::gdb
