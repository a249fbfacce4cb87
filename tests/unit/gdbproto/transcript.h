// Recorded sessions: what went over the wire, and transports that record it and play it again.
//
// A transcript is text: lines `> bytes` (we to the stub) and `< bytes` (the stub to us), with bytes
// outside printable ASCII, and the backslash, as \xx. Only order matters: while playing, what the
// stub said is there as soon as we have sent all that comes before it, and each byte that we send
// is compared.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gdbproto/transport.h"

namespace guestscope::gdb::testing {

struct Turn {
  bool ours = false;
  std::string bytes;
};

std::string write_transcript(const std::vector<Turn>& turns);
Result<std::vector<Turn>> read_transcript(std::string_view text);

class RecordingTransport final : public Transport {
 public:
  RecordingTransport(std::unique_ptr<Transport> inner, std::vector<Turn>& turns)
      : inner_(std::move(inner)), turns_(turns) {}
  Result<std::size_t> write_some(std::string_view bytes) override;
  Result<std::size_t> read_some(std::span<char> into) override;
  Result<void> wait(bool or_writable, bool awake, Deadline until) override {
    return inner_->wait(or_writable, awake, until);
  }
  int fd() const override { return inner_->fd(); }

 private:
  void add(bool ours, std::string_view bytes);

  std::unique_ptr<Transport> inner_;
  std::vector<Turn>& turns_;
};

class ReplayTransport final : public Transport {
 public:
  /// `finished` becomes true when everything was sent and read. The first byte that we send and did
  /// not send then is kProtocol and says where.
  ReplayTransport(std::vector<Turn> turns, bool& finished)
      : turns_(std::move(turns)), finished_(finished) {}
  Result<std::size_t> write_some(std::string_view bytes) override;
  Result<std::size_t> read_some(std::span<char> into) override;
  Result<void> wait(bool or_writable, bool awake, Deadline until) override;
  int fd() const override { return -1; }

 private:
  bool on_turn(bool ours);

  std::vector<Turn> turns_;
  std::size_t turn_ = 0;
  std::size_t offset_ = 0;
  bool& finished_;
};

}  // namespace guestscope::gdb::testing
