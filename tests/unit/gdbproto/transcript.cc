#include "tests/unit/gdbproto/transcript.h"

#include <algorithm>
#include <cstring>

#include "gdbproto/hex.h"

namespace guestscope::gdb::testing {
namespace {

constexpr std::size_t kLine = 4000;

}  // namespace

std::string write_transcript(const std::vector<Turn>& turns) {
  std::string text;
  for (const Turn& turn : turns)
    for (std::size_t at = 0; at < turn.bytes.size(); at += kLine) {
      text += turn.ours ? "> " : "< ";
      for (const char c : std::string_view(turn.bytes).substr(at, kLine)) {
        if (c >= ' ' && c <= '~' && c != '\\')
          text += c;
        else
          text += '\\' + text_to_hex({&c, 1});
      }
      text += '\n';
    }
  return text;
}

Result<std::vector<Turn>> read_transcript(std::string_view text) {
  std::vector<Turn> turns;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || line[0] == '#') continue;
    const bool ours = line[0] == '>';
    if (turns.empty() || turns.back().ours != ours) turns.push_back({ours, {}});
    for (std::size_t i = 2; i < line.size(); ++i) {
      if (line[i] != '\\') {
        turns.back().bytes += line[i];
        continue;
      }
      const auto byte = hex_to_text(line.substr(i + 1, 2));
      if (!byte || byte->size() != 1) return fail(ErrorCode::kCorrupt, "transcript: bad escape");
      turns.back().bytes += *byte;
      i += 2;
    }
  }
  return turns;
}

void RecordingTransport::add(bool ours, std::string_view bytes) {
  if (bytes.empty()) return;
  if (turns_.empty() || turns_.back().ours != ours) turns_.push_back({ours, {}});
  turns_.back().bytes += bytes;
}

Result<std::size_t> RecordingTransport::write_some(std::string_view bytes) {
  auto n = inner_->write_some(bytes);
  if (n) add(true, bytes.substr(0, *n));
  return n;
}

Result<std::size_t> RecordingTransport::read_some(std::span<char> into) {
  auto n = inner_->read_some(into);
  if (n) add(false, {into.data(), *n});
  return n;
}

bool ReplayTransport::on_turn(bool ours) {
  while (turn_ < turns_.size() && offset_ == turns_[turn_].bytes.size()) {
    ++turn_;
    offset_ = 0;
  }
  finished_ = turn_ == turns_.size();
  return !finished_ && turns_[turn_].ours == ours;
}

Result<std::size_t> ReplayTransport::write_some(std::string_view bytes) {
  std::size_t n = 0;
  // A stub that talks first was listened to first when this was recorded: wait for the reader.
  while (n < bytes.size() && on_turn(true)) {
    const char expected = turns_[turn_].bytes[offset_];
    if (bytes[n] != expected)
      return fail(ErrorCode::kProtocol, "sent '{}' where '{}' was recorded (turn {}, byte {})",
                  bytes.substr(n, 40), std::string_view(turns_[turn_].bytes).substr(offset_, 40),
                  turn_, offset_);
    ++n;
    ++offset_;
  }
  if (n == 0 && finished_)
    return fail(ErrorCode::kProtocol, "sent '{}' after the recorded end", bytes.substr(0, 40));
  on_turn(true);
  return n;
}

Result<std::size_t> ReplayTransport::read_some(std::span<char> into) {
  if (!on_turn(false)) return 0;
  const std::string_view rest = std::string_view(turns_[turn_].bytes).substr(offset_);
  const std::size_t n = std::min(into.size(), rest.size());
  std::memcpy(into.data(), rest.data(), n);
  offset_ += n;
  on_turn(false);
  return n;
}

Result<void> ReplayTransport::wait(bool or_writable, bool /*awake*/, Deadline) {
  if (on_turn(false) || (or_writable && on_turn(true))) return {};
  return fail(ErrorCode::kTimeout, "nothing was recorded to come here");
}

}  // namespace guestscope::gdb::testing
