// Api: the paths of the interface (docs/interface.md), independent of how a request arrived.
//
// Threads: answer() may be called by many at once; it blocks until the guest's session has a
// snapshot, at most kSnapshotTimeout. The sessions must outlive it.
#pragma once

#include <chrono>
#include <span>
#include <string_view>

#include "daemon/answer.h"
#include "daemon/guest_view.h"
#include "daemon/request.h"

namespace guestscope {

inline constexpr std::chrono::seconds kSnapshotTimeout{30};

class Api {
 public:
  /// The first session is the one that the bare paths mean. There is at least one.
  explicit Api(std::vector<GuestSession*> sessions) : sessions_(std::move(sessions)) {}

  /// Never throws; every failure is a problem document.
  Answer answer(std::string_view target) const;

 private:
  Answer route(const Request& request) const;
  Answer guests(const Request& request) const;

  std::vector<GuestSession*> sessions_;
};

// The paths of one guest; `request.path` begins with the path's own name ("maps").
Answer answer_maps(const GuestView& session, const Request& request);
Answer answer_progs(const GuestView& session, const Request& request);
Answer answer_links(const GuestView& session, const Request& request);
Answer answer_btf(const GuestView& session, const Request& request);
Answer answer_run_queues(const GuestView& session, const Request& request);
Answer answer_tasks(const GuestView& session, const Request& request);
Answer answer_verdict(const GuestView& session, const Request& request);
Answer answer_scx(const GuestView& session, const Request& request);
Answer answer_topology(const GuestView& session, const Request& request);
Answer answer_stats(const GuestView& session, const Request& request);
Answer answer_status(const GuestView& session, const Request& request);

/// The problem that an error of a snapshot makes; when the kernel is not ready, with the state,
/// attempts and last error of that accessor of the guest.
Answer snapshot_problem(const Error& error, const GuestView& session, std::string_view accessor);

/// What `make(value, meta)` answers to the request by a snapshot: once for all who ask the same.
/// `accessor`: see snapshot_problem().
template <typename Work, typename Make>
Answer answer_by(const GuestView& session, const Request& request, const std::string& kind,
                 Work work, std::string_view accessor, Make make) {
  const auto answer =
      session.render(kind, std::move(work), request.target, std::move(make), kSnapshotTimeout);
  return answer ? **answer : snapshot_problem(answer.error(), session, accessor);
}

/// A REF that names nothing: not found, unless something could not be read, which may be it.
Answer none_answer(std::string_view kind, const std::string& ref, const Problems& problems);
/// A REF that names several: their ids, to choose from.
Answer ambiguous_answer(std::string_view kinds, const std::string& ref,
                        const std::vector<std::uint64_t>& ids);

/// Sends `json`, indented when the request has ?pretty.
Answer json_answer(const Json& json, bool pretty, int status = 200);

/// JSON that has been written, indented when the request has ?pretty.
Answer text_answer(std::string text, bool pretty);

/// Bytes of the guest as they are.
Answer bytes_answer(ByteSpan bytes);

/// "7" as an id or CPU number; empty when it is no number.
std::optional<std::uint64_t> parse_number(std::string_view text);

}  // namespace guestscope
