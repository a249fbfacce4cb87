#include "tests/support/qemu_model.h"

#include <algorithm>
#include <cstring>

#include "gdbproto/hex.h"

namespace guestscope::gdb::testing {

QemuModel::QemuModel() : mtree(kMtree) {
  documents["target.xml"] =
      R"(<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>)"
      R"(<architecture>i386:x86-64</architecture><xi:include href="core.xml"/></target>)";
  documents["core.xml"] =
      R"(<feature name="core"><reg name="rax" bitsize="64"/><reg name="cr3" bitsize="64"/>)"
      R"(<reg name="xmm0" bitsize="128"/><reg name="eflags" bitsize="32"/></feature>)";
  registers = {{"1/0", "1100000000000000"}, {"1/1", "0010000000000000"}, {"1/3", "02000000"},
               {"2/0", "2200000000000000"}, {"2/1", "0020000000000000"}, {"2/3", "46020000"}};
}

void QemuModel::attach() {
  no_ack_ = false;
  if (running) stop(false);
}

void QemuModel::owner_stops() {
  if (running) stop(false);
}

void QemuModel::stop(bool by_interrupt) {
  running = false;
  if (replies_on_demand && !by_interrupt && !may_reply_) return;
  may_reply_ = false;
  send("T02thread:" + thread(1) + ";");
}

std::string QemuModel::thread(unsigned tid) const {
  return multiprocess ? fmt::format("p01.{:02x}", tid) : fmt::format("{:02x}", tid);
}

std::size_t QemuModel::count(std::string_view prefix) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      packets, [&](const std::string& packet) { return packet.starts_with(prefix); }));
}

void QemuModel::send(std::string_view payload) {
  append_packet(out_, payload);
  unacknowledged_ = !no_ack_;
}

void QemuModel::take(std::string_view bytes) {
  for (const char c : bytes) take_byte(c);
}

// gdb_read_byte().
void QemuModel::take_byte(char c) {
  if (unacknowledged_) {
    if (c == '+' || c == '$') unacknowledged_ = false;
    if (c == '+') ++acks;
    if (c != '$') return;
  }
  if (running) {
    if (c != '\x03') ++swallowed;
    stop(c == '\x03');
    return;
  }
  if (c == '$') in_packet_ = true;
  if (!in_packet_) return;
  std::string_view one(&c, 1);
  const auto event = decoder_.next(one);
  if (!event) return;
  in_packet_ = false;
  if (event->kind != PacketDecoder::EventKind::kPacket) {
    out_ += '-';
    return;
  }
  const std::string packet(event->payload);
  packets.push_back(packet);
  if (!no_ack_) out_ += '+';
  if (override_answer)
    if (const char* answer = override_answer(packet)) return send(answer);
  handle(packet);
}

void QemuModel::let_run() {
  running = true;
  up_to_date_.clear();
}

void QemuModel::handle(const std::string& packet) {
  switch (packet[0]) {
    case 'm': return read_memory(packet);
    case 'p': return read_register(packet);
    case 'q':
    case 'Q': return handle_query(packet);
    case 'H':
      selected_ = static_cast<unsigned>(std::stoul(
          packet.substr(packet.find('.') == std::string::npos ? 2 : packet.find('.') + 1), nullptr,
          16));
      return send(selected_ <= cpus ? "OK" : "E22");
    case 'g': up_to_date_.insert(selected_); return send(general_registers());
    case 'c':
      let_run();
      may_reply_ = true;
      return;
    case 'D':
      if (multiprocess && packet == "D") return send("E22");
      ++detached;
      let_run();
      return send("OK");
    default: return send("");
  }
}

void QemuModel::handle_query(const std::string& packet) {
  if (packet.starts_with("qSupported"))
    return send("PacketSize=" + packet_size + ";qXfer:features:read+;multiprocess+" +
                (offers_no_ack ? ";QStartNoAckMode+" : ""));
  if (packet == "QStartNoAckMode") {
    send("OK");
    no_ack_ = true;
    return;
  }
  if (packet == "qqemu.PhyMemMode" && is_qemu) return send(physical ? "1" : "0");
  if (packet.starts_with("Qqemu.PhyMemMode:") && is_qemu) {
    physical = packet.back() == '1';
    return send("OK");
  }
  if (packet == "qC") return send("QC" + thread(1));
  if (packet == "qfThreadInfo") {
    listed_ = 1;
    return send("m" + thread(listed_));
  }
  if (packet == "qsThreadInfo") return send(listed_ < cpus ? "m" + thread(++listed_) : "l");
  if (packet.starts_with("qXfer:features:read:")) return send_document(packet);
  if (packet.starts_with("qRcmd,")) return monitor(*hex_to_text(packet.substr(6)));
  send("");
}

void QemuModel::monitor(std::string_view command) {
  std::string text = "unknown command\r\n";
  if (command == "info version") text = version + "\r\n";
  if (command == "info status") text = "VM status: " + status + "\r\n";
  if (command == "info mtree -f") text = mtree;
  // Several O packets, and nobody waits for their acknowledgement.
  for (std::size_t at = 0; at < text.size(); at += 300)
    send("O" + text_to_hex(std::string_view(text).substr(at, 300)));
  send("OK");
}

void QemuModel::send_document(const std::string& packet) {
  const std::string rest = packet.substr(std::strlen("qXfer:features:read:"));
  const std::size_t colon = rest.find(':');
  const std::size_t comma = rest.find(',');
  const auto found = documents.find(rest.substr(0, colon));
  if (found == documents.end()) return send("E00");
  const auto offset =
      static_cast<std::size_t>(*parse_hex(rest.substr(colon + 1, comma - colon - 1)));
  const auto length = static_cast<std::size_t>(*parse_hex(rest.substr(comma + 1)));
  if (offset > found->second.size()) return send("E00");
  // Small parts, so that the client has to ask again.
  const std::string part = found->second.substr(offset, std::min<std::size_t>(length, 100));
  send((offset + part.size() < found->second.size() ? "m" : "l") + part);
}

void QemuModel::read_memory(const std::string& packet) {
  const std::size_t comma = packet.find(',');
  const std::uint64_t address = *parse_hex(packet.substr(1, comma - 1));
  const std::uint64_t size = *parse_hex(packet.substr(comma + 1));
  if (size > 2048 || !physical) return send("E22");
  for (std::uint64_t at = address; at < address + size; ++at)
    if (refused_pages.contains(at >> 12)) return send("E14");
  std::string text(size, '\0');
  if (guest_memory)
    guest_memory(address, std::as_writable_bytes(std::span(text)));
  else
    for (std::uint64_t i = 0; i < size; ++i) text[i] = static_cast<char>(memory_at(address + i));
  send(text_to_hex(text));
}

std::string QemuModel::general_registers() const {
  std::string text = general == 0 ? "00000000" : "";
  for (unsigned i = 0; i < general; ++i)
    if (const auto found = registers.find(fmt::format("{}/{}", selected_, i));
        found != registers.end())
      text += found->second;
  return text;
}

void QemuModel::read_register(const std::string& packet) {
  const auto found = registers.find(fmt::format("{}/{}", selected_, *parse_hex(packet.substr(1))));
  if (found == registers.end()) return send("E14");
  send(lags && !up_to_date_.contains(selected_) ? std::string(found->second.size(), '0')
                                                : found->second);
}

Result<std::size_t> ModelTransport::write_some(std::string_view bytes) {
  if (closed) return fail(ErrorCode::kUnreachable, "connection lost");
  const std::string_view part = bytes.substr(0, chunk);
  model_.take(part);
  return part.size();
}

Result<std::size_t> ModelTransport::read_some(std::span<char> into) {
  pending_ += model_.take_output();
  if (closed && pending_.empty()) return fail(ErrorCode::kUnreachable, "the stub closed");
  const std::size_t n = std::min({into.size(), pending_.size(), chunk});
  std::memcpy(into.data(), pending_.data(), n);
  pending_.erase(0, n);
  if (n > 0 && arrival) *arrival += between;
  return n;
}

// Nothing moves by itself here: when nothing is there, nothing will come.
Result<void> ModelTransport::wait(bool or_writable, bool /*awake*/, Deadline) {
  pending_ += model_.take_output();
  if (or_writable || closed || !pending_.empty()) return {};
  return fail(ErrorCode::kTimeout, "no answer in time");
}

}  // namespace guestscope::gdb::testing
