// Options: the command line and the configuration file, checked as far as that is possible without
// a guest.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/guest_session.h"

namespace guestscope {

struct ListenAddress {
  std::string host;
  int port = 0;
  std::string to_string() const;
};

struct AppOptions {
  std::vector<GuestConfig> guests;  ///< at least one; the first is the one that bare paths mean
  ListenAddress listen;
  std::optional<std::string> once;  ///< the path to print instead of serving
  std::chrono::seconds wait{60};
  std::string log_level = "info";
};

/// What main() does next: run with options, or exit now.
struct ParsedCommandLine {
  std::optional<AppOptions> options{};
  int exit_status = 0;
};

/// Prints help, version or what is wrong with the command line itself.
ParsedCommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace guestscope
