// GuestView: a guest as one request wants it looked at.
//
// Borrows the session; to be copied into what outlives the request (streams). Threads: one
// request's.
#pragma once

#include "daemon/guest_session.h"

namespace guestscope {

class GuestView {
 public:
  GuestView(GuestSession& session, Consistency consistency)
      : session_(session), consistency_(consistency) {}

  const GuestConfig& config() const { return session_.config(); }
  GuestStatus status() const { return session_.status(); }
  /// As GuestSession::snapshot().
  template <typename Work>
  auto snapshot(const std::string& kind, Work work, std::chrono::milliseconds timeout) const {
    return session_.snapshot(kind, std::move(work), timeout, consistency_);
  }
  /// As GuestSession::render().
  template <typename Work, typename Make>
  auto render(const std::string& kind, Work work, const std::string& as, Make make,
              std::chrono::milliseconds timeout) const {
    return session_.render(kind, std::move(work), as, std::move(make), timeout, consistency_);
  }

 private:
  GuestSession& session_;
  Consistency consistency_;
};

}  // namespace guestscope
