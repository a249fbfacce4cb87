#include "daemon/options.h"

#include <CLI/CLI.hpp>

#include <fstream>
#include <iostream>

#include "daemon/api.h"
#include "daemon/version.h"

namespace guestscope {

namespace {

constexpr int kBadUsage = 2;
constexpr std::uint64_t kMaxPauseLimitMs = 60'000;
constexpr double kMinPauseShare = 0.1;

/// One guest's options as text, from the command line or from an object of the configuration file.
struct GuestText {
  std::string name = "default";
  std::string gdb = "localhost:1234";
  std::string vmlinux;
  std::string memory = "auto";
  std::uint64_t max_pause_ms = 100;
  std::optional<double> max_pause_share;  ///< percent
  bool resume = false;
  bool paused = false;
};

struct CommandLine {
  GuestText guest;
  std::string listen = "127.0.0.1:8080";
  std::string config;
  std::optional<std::string> once;
  std::uint64_t wait_s = 60;
  std::string log_level = "info";
};

Result<MemoryMode> parse_memory(const std::string& text) {
  if (text == "auto") return MemoryMode::kAuto;
  if (text == "stub") return MemoryMode::kStub;
  if (text == "process") return MemoryMode::kProcess;
  return fail(ErrorCode::kInvalidArgument, "--memory is auto, stub or process, not '{}'", text);
}

Result<GuestConfig> check_guest(const GuestText& text) {
  GuestConfig config;
  config.name = text.name;
  config.gdb_text = text.gdb;
  config.vmlinux = text.vmlinux;
  GS_ASSIGN(config.gdb, gdb::StubAddress::parse(text.gdb));
  GS_ASSIGN(config.memory, parse_memory(text.memory));
  if (text.max_pause_ms == 0 || text.max_pause_ms > kMaxPauseLimitMs)
    return fail(ErrorCode::kInvalidArgument, "--max-pause is 1 to {} ms, not {}", kMaxPauseLimitMs,
                text.max_pause_ms);
  config.max_pause = std::chrono::milliseconds(text.max_pause_ms);
  if (const auto share = text.max_pause_share) {
    // Written so that NaN is refused.
    if (!(*share >= kMinPauseShare && *share <= 100))
      return fail(ErrorCode::kInvalidArgument, "--max-pause-share is {} to 100 percent, not {}",
                  kMinPauseShare, *share);
    config.max_pause_share = *share / 100;
    // Whoever sets it means it: a request waits for it until it times out.
    config.longest_share_wait = std::chrono::hours(1);
  }
  config.resume = text.resume;
  config.paused = text.paused;
  return config;
}

Result<ListenAddress> parse_listen(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  const auto port =
      colon == text.npos ? std::nullopt : parse_number(std::string_view(text).substr(colon + 1));
  if (!port || *port > 65535)
    return fail(ErrorCode::kInvalidArgument, "--listen is HOST:PORT, not '{}'", text);
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) host = "127.0.0.1";
  return ListenAddress{.host = std::move(host), .port = static_cast<int>(*port)};
}

std::uint64_t whole_number(const std::string& key, const Json& value) {
  const auto number = value.get<double>();  // of another type: the library's own complaint
  if (value.is_number_float())
    throw std::invalid_argument(fmt::format("{} is a whole number, not {}", key, number));
  return value.get<std::uint64_t>();
}

GuestText guest_from_json(const Json& json, const GuestText& defaults) {
  if (!json.is_object()) throw std::invalid_argument("a guest is an object, not " + json.dump());
  GuestText text = defaults;
  for (const auto& [key, value] : json.items()) {
    if (key == "name")
      text.name = value.get<std::string>();
    else if (key == "gdb")
      text.gdb = value.get<std::string>();
    else if (key == "vmlinux")
      text.vmlinux = value.get<std::string>();
    else if (key == "memory")
      text.memory = value.get<std::string>();
    else if (key == "max_pause")
      text.max_pause_ms = whole_number(key, value);
    else if (key == "max_pause_share")
      text.max_pause_share = value.get<double>();
    else if (key == "resume")
      text.resume = value.get<bool>();
    else if (key == "paused")
      text.paused = value.get<bool>();
    else
      throw std::invalid_argument("unknown member '" + key + "'");
  }
  return text;
}

/// {"listen": "…", "guests": [{"name": "a", "gdb": "…", "vmlinux": "…", …}, …]}
Result<std::vector<GuestText>> read_config(CommandLine& line) {
  std::ifstream file(line.config);
  if (!file) return fail(ErrorCode::kInvalidArgument, "cannot read {}", line.config);
  try {
    const Json json = Json::parse(file);
    std::vector<GuestText> guests;
    for (const auto& [key, value] : json.items()) {
      if (key == "listen")
        line.listen = value.get<std::string>();
      else if (key == "guests")
        for (const Json& guest : value) guests.push_back(guest_from_json(guest, line.guest));
      else
        throw std::invalid_argument("unknown member '" + key + "'");
    }
    if (guests.empty()) return fail(ErrorCode::kInvalidArgument, "{} names no guests", line.config);
    return guests;
  } catch (const std::exception& error) {
    return fail(ErrorCode::kInvalidArgument, "{}: {}", line.config, error.what());
  }
}

Result<AppOptions> check(CommandLine line) {
  std::vector<GuestText> guests = {line.guest};
  if (!line.config.empty()) {
    GS_ASSIGN(guests, read_config(line));
  }
  AppOptions options{.guests = {},
                     .listen = {},
                     .once = {},
                     .wait = std::chrono::seconds(line.wait_s),
                     .log_level = line.log_level};
  for (const GuestText& guest : guests) {
    GS_ASSIGN(GuestConfig config, check_guest(guest));
    for (const GuestConfig& other : options.guests)
      if (other.name == config.name)
        return fail(ErrorCode::kInvalidArgument, "two guests are named '{}'", config.name);
    options.guests.push_back(std::move(config));
  }
  GS_ASSIGN(options.listen, parse_listen(line.listen));
  if (line.once) GS_CHECK(Request::parse(*line.once));
  options.once = line.once;
  return options;
}

}  // namespace

std::string ListenAddress::to_string() const {
  return host.find(':') == host.npos ? fmt::format("{}:{}", host, port)
                                     : fmt::format("[{}]:{}", host, port);
}

ParsedCommandLine parse_command_line(int argc, const char* const* argv) {
  CommandLine line;
  CLI::App app(
      "guestscope: BPF maps, BPF programs and run queues of a running Linux guest, from outside, "
      "as JSON");
  app.set_version_flag("--version", std::string("guestscope ") + kVersion);
  app.add_option("--gdb", line.guest.gdb, "QEMU's gdb stub: HOST:PORT, tcp:HOST:PORT or unix:PATH")
      ->capture_default_str();
  app.add_option("--vmlinux", line.guest.vmlinux,
                 "a file of the guest's kernel: vmlinux (symbols, BTF or DWARF), vmlinuz or Image; "
                 "without it, symbols and types are read from the guest's memory");
  app.add_option("--listen", line.listen, "HOST:PORT to serve HTTP on")->capture_default_str();
  app.add_option("--memory", line.guest.memory, "how guest memory is read: auto, stub or process")
      ->capture_default_str();
  app.add_option("--max-pause", line.guest.max_pause_ms,
                 "longest time the guest is held at once, in ms")
      ->capture_default_str();
  app.add_option("--max-pause-share", line.guest.max_pause_share,
                 "largest share of all time for which the guest is held, in percent; 100: no limit "
                 "(default: 4, but no answer waits longer than 250 ms for it)");
  app.add_flag("--resume", line.guest.resume, "let a VM that waits (-S) start once attached");
  app.add_flag("--paused", line.guest.paused,
               "the VM is paused by its owner now (QEMU 8.1 and later do not tell)");
  app.add_option("--config", line.config, "JSON file that names several guests");
  app.add_option("--once", line.once, "print the JSON of one path (/maps) and exit");
  app.add_option("--wait", line.wait_s, "with --once: seconds to wait for readiness")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  app.add_option("--log-level", line.log_level, "trace, debug, info, warn, error or off")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return {.exit_status = app.exit(error) == 0 ? 0 : kBadUsage};
  }
  auto options = check(std::move(line));
  if (options) return {.options = *std::move(options)};
  std::cerr << "guestscope: " << options.error().to_string() << '\n';
  return {.exit_status = kBadUsage};
}

}  // namespace guestscope
