#include "daemon/options.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

namespace guestscope {
namespace {

/// What parse_command_line() returned and printed.
struct Parsed {
  ParsedCommandLine line;
  std::string out{};
  std::string err{};
};

Parsed parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "guestscope");
  std::ostringstream out, err;
  auto* const old_out = std::cout.rdbuf(out.rdbuf());
  auto* const old_err = std::cerr.rdbuf(err.rdbuf());
  Parsed parsed{.line = parse_command_line(static_cast<int>(arguments.size()), arguments.data())};
  std::cout.rdbuf(old_out);
  std::cerr.rdbuf(old_err);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

AppOptions good(const std::vector<const char*>& arguments) {
  Parsed parsed = parse(arguments);
  INFO(parsed.err);
  REQUIRE(parsed.line.options);
  return *std::move(parsed.line.options);
}

void check_bad(const std::vector<const char*>& arguments, const std::string& text) {
  const Parsed parsed = parse(arguments);
  CAPTURE(parsed.err);
  CHECK_FALSE(parsed.line.options);
  CHECK(parsed.line.exit_status == 2);
  CHECK(parsed.out.empty());
  CHECK(parsed.err.find(text) != std::string::npos);
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("guestscope-options-{}.json", ::getpid())) {
    std::ofstream(path_) << text;
  }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;
  ~ConfigFile() { std::filesystem::remove(path_); }
  const char* path() const { return path_.c_str(); }

 private:
  std::filesystem::path path_;
};

void check_bad_config(const std::string& text, const std::string& message) {
  CAPTURE(text);
  const ConfigFile file(text);
  check_bad({"--config", file.path()}, message);
}

TEST_CASE("a kernel file is all that has to be given") {
  const AppOptions options = good({"--vmlinux", "v"});
  REQUIRE(options.guests.size() == 1);
  const GuestConfig& guest = options.guests[0];
  CHECK(guest.name == "default");
  CHECK(guest.gdb_text == "localhost:1234");
  CHECK(guest.gdb.to_string() == "localhost:1234");
  CHECK(guest.vmlinux == "v");
  CHECK(guest.memory == MemoryMode::kAuto);
  CHECK(guest.max_pause == std::chrono::milliseconds(100));
  CHECK(guest.max_pause_share == 0.04);
  CHECK(guest.longest_share_wait == std::chrono::milliseconds(250));
  CHECK_FALSE(guest.resume);
  CHECK_FALSE(guest.paused);
  CHECK(options.listen.to_string() == "127.0.0.1:8080");
  CHECK_FALSE(options.once);
  CHECK(options.wait == std::chrono::seconds(60));
  CHECK(options.log_level == "info");
}

TEST_CASE("every option says what it sets") {
  const AppOptions options =
      good({"--vmlinux=v", "--gdb=unix:/run/stub", "--listen=[::1]:0", "--memory=stub",
            "--max-pause=7", "--max-pause-share=2.5", "--resume", "--paused", "--once=/maps?pretty",
            "--wait=3", "--log-level=off"});
  CHECK(options.guests[0].gdb.kind == gdb::StubAddress::Kind::kUnix);
  CHECK(options.guests[0].gdb.path == "/run/stub");
  CHECK(options.guests[0].memory == MemoryMode::kStub);
  CHECK(good({"--memory", "process"}).guests[0].memory == MemoryMode::kProcess);
  CHECK(options.guests[0].max_pause == std::chrono::milliseconds(7));
  CHECK(options.guests[0].max_pause_share == 0.025);
  CHECK(options.guests[0].longest_share_wait > std::chrono::minutes(1));
  CHECK(options.guests[0].resume);
  CHECK(options.guests[0].paused);
  CHECK(options.once == "/maps?pretty");
  CHECK(options.wait == std::chrono::seconds(3));
  CHECK(options.log_level == "off");
}

TEST_CASE("help and version go to standard output and are no failure") {
  for (const char* option : {"--help", "-h", "--version"}) {
    CAPTURE(std::string(option));
    const Parsed parsed = parse({option});
    CHECK_FALSE(parsed.line.options);
    CHECK(parsed.line.exit_status == 0);
    CHECK(parsed.err.empty());
    CHECK(parsed.out.find("guestscope") != std::string::npos);
  }
}

TEST_CASE("a guest needs no kernel file: it is looked for in its memory") {
  CHECK(good({}).guests.front().vmlinux.empty());
}

TEST_CASE("bad usage is one line that says what is wrong, and exit status 2") {
  check_bad({"--vmlinux", "v", "--frobnicate"}, "--frobnicate");
  check_bad({"--vmlinux", "v", "positional"}, "positional");
  check_bad({"--vmlinux"}, "--vmlinux");
  check_bad({"--vmlinux", "v", "--gdb", "nowhere"}, "nowhere");
  check_bad({"--vmlinux", "v", "--gdb", "host:99999"}, "99999");
  check_bad({"--vmlinux", "v", "--memory", "disk"},
            "--memory is auto, stub or process, not 'disk'");
  check_bad({"--vmlinux", "v", "--max-pause", "0"}, "--max-pause is 1 to 60000 ms, not 0");
  check_bad({"--vmlinux", "v", "--max-pause", "60001"}, "--max-pause is 1 to 60000 ms, not 60001");
  check_bad({"--vmlinux", "v", "--max-pause", "-1"}, "--max-pause");
  check_bad({"--vmlinux", "v", "--max-pause", "soon"}, "--max-pause");
  for (const char* share : {"0", "100.5", "-1", "nan"})
    check_bad({"--max-pause-share", share}, "--max-pause-share is 0.1 to 100 percent");
  check_bad({"--vmlinux", "v", "--wait", "soon"}, "--wait");
  check_bad({"--vmlinux", "v", "--log-level", "loud"}, "--log-level");
}

TEST_CASE("--listen takes a host, an address in brackets, or nothing before the port") {
  const auto listen = [](const char* text) {
    return good({"--vmlinux", "v", "--listen", text}).listen;
  };
  CHECK(listen("0.0.0.0:80").to_string() == "0.0.0.0:80");
  CHECK(listen("localhost:65535").host == "localhost");
  CHECK(listen(":8080").to_string() == "127.0.0.1:8080");
  CHECK(listen("[::1]:8080").host == "::1");
  CHECK(listen("[::1]:8080").to_string() == "[::1]:8080");
  CHECK(listen("127.0.0.1:0").port == 0);
  for (const char* bad : {"8080", "host", "host:", "host:http", "host:65536", "host:-1", "host: 80",
                          "host:80 ", "[::1]", "host:18446744073709551696"}) {
    CAPTURE(std::string(bad));
    check_bad({"--vmlinux", "v", "--listen", bad}, "--listen is HOST:PORT, not '");
  }
}

TEST_CASE("--once takes a path that could be asked for") {
  CHECK(good({"--vmlinux", "v", "--once", "/"}).once == "/");
  check_bad({"--vmlinux", "v", "--once", "maps"}, "path 'maps' does not begin with '/'");
  check_bad({"--vmlinux", "v", "--once", "/%zz"}, "bad percent-encoding");
}

TEST_CASE("a configuration file names several guests, whose defaults are the command line's") {
  const ConfigFile file(R"({"listen": "127.0.0.1:9",
    "guests": [{"name": "a", "gdb": "h:1", "max_pause": 5, "resume": true, "paused": true},
               {"name": "b", "vmlinux": "other", "memory": "process"}]})");
  const AppOptions options =
      good({"--vmlinux", "v", "--gdb", "x:2", "--memory", "stub", "--config", file.path()});
  REQUIRE(options.guests.size() == 2);
  CHECK(options.guests[0].name == "a");
  CHECK(options.guests[0].gdb.to_string() == "h:1");
  CHECK(options.guests[0].vmlinux == "v");
  CHECK(options.guests[0].memory == MemoryMode::kStub);
  CHECK(options.guests[1].memory == MemoryMode::kProcess);
  CHECK(options.guests[0].max_pause == std::chrono::milliseconds(5));
  CHECK(options.guests[0].resume);
  CHECK(options.guests[0].paused);
  CHECK(options.guests[1].gdb_text == "x:2");
  CHECK(options.guests[1].vmlinux == "other");
  CHECK_FALSE(options.guests[1].resume);
  CHECK_FALSE(options.guests[1].paused);
  CHECK(options.listen.port == 9);
}

TEST_CASE("a bad configuration file is one line that names it, and exit status 2") {
  check_bad({"--config", "/nowhere/at/all"}, "cannot read /nowhere/at/all");
  check_bad_config("", "parse error");
  check_bad_config("{", "parse error");
  check_bad_config("[]", "names no guests");
  check_bad_config("7", "unknown member");
  check_bad_config("{}", "names no guests");
  check_bad_config(R"({"guests": []})", "names no guests");
  check_bad_config(R"({"guests": {}})", "names no guests");
  check_bad_config(R"({"guest": []})", "unknown member 'guest'");
  check_bad_config(R"({"listen": 80, "guests": [{"vmlinux": "v"}]})", "type must be string");
  check_bad_config(R"({"listen": "80", "guests": [{"vmlinux": "v"}]})", "--listen is HOST:PORT");
  check_bad_config(R"({"guests": [{"vmlinux": "v", "x": 1}]})", "unknown member 'x'");
  check_bad_config(R"({"guests": [{"vmlinux": 1}]})", "type must be string");
  check_bad_config(R"({"guests": [{"vmlinux": "v", "resume": 1}]})", "type must be boolean");
  check_bad_config(R"({"guests": [{"memory": "disk"}]})", "not 'disk'");
  check_bad_config(R"({"guests": [{"vmlinux": "v", "max_pause": "5"}]})", "type must be number");
  check_bad_config(R"({"guests": [{"vmlinux": "v", "max_pause": -1}]})", "--max-pause is 1 to");
  check_bad_config(R"({"guests": [{"vmlinux": "v", "gdb": "h"}]})", "'h'");
  check_bad_config(R"({"guests": [{"vmlinux": "v"}, {"vmlinux": "w"}]})",
                   "two guests are named 'default'");
}

// null and [] have no members to complain about, and 5.9 becomes 5.
TEST_CASE("a guest of a configuration file is an object, a pause a whole number") {
  for (const char* text :
       {R"({"guests": [null]})", R"({"guests": [[]]})", R"({"guests": [{"max_pause": 5.9}]})"}) {
    CAPTURE(std::string(text));
    const ConfigFile file(text);
    CHECK_FALSE(parse({"--vmlinux", "v", "--config", file.path()}).line.options);
  }
}

}  // namespace
}  // namespace guestscope
