// HttpServer: the Api over HTTP, with limits for untrusted clients.
//
// Threads: start() and stop() by one; requests are served by a pool of its own.
#pragma once

#include <memory>

#include "daemon/api.h"
#include "daemon/options.h"

namespace guestscope {

class HttpServer {
 public:
  explicit HttpServer(const Api& api);
  /// Waits for stop() to be complete, however long.
  ~HttpServer();

  /// Listens and serves in the background. kSystem when the address is taken or is not this
  /// machine's.
  Result<void> start(const ListenAddress& address);
  /// The port in use (when 0 was asked for).
  int port() const;
  /// Stops accepting and waits for the requests under way, at most `grace`. False when some client
  /// still holds one then: the object must not be destroyed any more, only the process ended.
  bool stop(std::chrono::milliseconds grace);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace guestscope
