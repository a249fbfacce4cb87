#include "daemon/app.h"

#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <iostream>
#include <map>
#include <thread>

#include "daemon/http_server.h"

namespace guestscope {

namespace {

constexpr std::chrono::milliseconds kOncePollInterval{20};
constexpr std::chrono::milliseconds kStopGrace{500};

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

Result<std::shared_ptr<const KernelModel>> open_model(const std::string& path) {
  const KernelFileOptions how{.on_slow = [](const std::string& slow, std::chrono::seconds time) {
    spdlog::info("reading the types from the DWARF of {}, once: about {} s", slow, time.count());
  }};
  GS_ASSIGN(auto file, KernelFile::open(path, how));
  if (file->machine() == Machine::kOther)
    return fail(ErrorCode::kUnsupported,
                "kernel file {} is for another processor; guestscope understands x86-64 and arm64",
                path);
  for (const std::string& remark : file->remarks()) spdlog::info("{}", remark);
  for (const auto& missing : {file->missing_symbols(), file->missing_types()})
    if (missing)
      spdlog::warn("{}; they will be looked for in the guest's memory", missing->to_string());
  return KernelModel::bind(std::move(file));
}

/// Opens each kernel file once, however many guests run it.
Result<std::vector<std::unique_ptr<GuestSession>>> make_sessions(const AppOptions& options) {
  std::map<std::string, std::shared_ptr<const KernelModel>> models;
  std::vector<std::unique_ptr<GuestSession>> sessions;
  for (const GuestConfig& guest : options.guests) {
    auto& model = models[guest.vmlinux];
    if (!model && !guest.vmlinux.empty()) {
      GS_ASSIGN(model, open_model(guest.vmlinux));
    }
    sessions.push_back(std::make_unique<GuestSession>(guest, model));
  }
  return sessions;
}

void stop_sessions(const std::vector<std::unique_ptr<GuestSession>>& sessions) {
  for (const auto& session : sessions) session->request_stop();
  for (const auto& session : sessions) session->stop();
}

int serve(const Api& api, const ListenAddress& address,
          const std::vector<std::unique_ptr<GuestSession>>& sessions) {
  HttpServer server(api);
  if (const auto started = server.start(address); !started) {
    spdlog::error("{}", started.error().to_string());
    return 1;
  }
  spdlog::info("serving on http://{}",
               ListenAddress{.host = address.host, .port = server.port()}.to_string());
  const sigset_t set = stop_signals();
  int signal_number = 0;
  sigwait(&set, &signal_number);
  spdlog::info("stopping: {}", strsignal(signal_number));
  // The guests first: they must not wait for a client that does not read its answer.
  stop_sessions(sessions);
  if (!server.stop(kStopGrace)) {
    spdlog::info("leaving clients that hold their connections");
    std::_Exit(0);
  }
  return 0;
}

bool is_worth_waiting(const Answer& answer) {
  return answer.status == 503 && answer.retry_after.has_value();
}

/// Prints the answer of one path as soon as it is no longer "not ready".
int print_once(const Api& api, const std::string& path, std::chrono::seconds wait) {
  const auto deadline = std::chrono::steady_clock::now() + wait;
  Answer answer = api.answer(path);
  while (is_worth_waiting(answer) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kOncePollInterval);
    answer = api.answer(path);
  }
  if (answer.status != 200) {
    std::cerr << "guestscope: " << path << ": " << answer.body << '\n';
    return 1;
  }
  const auto write = [](std::string_view piece) { return static_cast<bool>(std::cout << piece); };
  if (answer.stream)
    answer.stream(write);
  else
    write(answer.body);
  return std::cout.flush() ? 0 : 1;
}

/// While an answer is waited for or written, a stop signal frees the guests and ends the process.
void end_on_stop_signal(const std::vector<std::unique_ptr<GuestSession>>& sessions) {
  std::thread([&sessions] {
    const sigset_t set = stop_signals();
    int signal_number = 0;
    sigwait(&set, &signal_number);
    stop_sessions(sessions);
    std::_Exit(0);
  }).detach();
}

}  // namespace

void block_stop_signals() {
  const sigset_t set = stop_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
}

int run_app(const AppOptions& options) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("guestscope"));
  spdlog::set_pattern("%H:%M:%S.%e %^%l%$ %v");
  spdlog::set_level(spdlog::level::from_str(options.log_level));
  auto sessions = make_sessions(options);
  if (!sessions) {
    std::cerr << "guestscope: " << sessions.error().to_string() << '\n';
    return 1;
  }
  std::vector<GuestSession*> borrowed;
  for (const auto& session : *sessions) {
    session->start();
    borrowed.push_back(session.get());
  }
  const Api api(std::move(borrowed));
  if (options.once) end_on_stop_signal(*sessions);
  const int status = options.once ? print_once(api, *options.once, options.wait)
                                  : serve(api, options.listen, *sessions);
  stop_sessions(*sessions);
  return status;
}

}  // namespace guestscope
