#include <exception>
#include <iostream>

#include "daemon/app.h"
#include "daemon/options.h"

int main(int argc, char** argv) {
  try {
    // Options are checked before anything is touched.
    const auto command_line = guestscope::parse_command_line(argc, argv);
    if (!command_line.options) return command_line.exit_status;
    // SIGINT and SIGTERM are waited for, not handled.
    guestscope::block_stop_signals();
    // Kernel files, guests, HTTP; returns when stopped.
    return guestscope::run_app(*command_line.options);
  } catch (const std::exception& error) {
    std::cerr << "guestscope: " << error.what() << '\n';
    return 1;
  }
}
