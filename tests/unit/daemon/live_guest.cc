#include "tests/unit/daemon/live_guest.h"

#include <spdlog/spdlog.h>

#include <thread>

#include "gdbproto/hex.h"

namespace guestscope::test {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view kTarget =
    R"(<?xml version="1.0"?><target><architecture>i386:x86-64</architecture><feature name="core">)"
    R"(<reg name="cr0" bitsize="64"/><reg name="cr3" bitsize="64"/><reg name="cr4" bitsize="64"/>)"
    R"(<reg name="efer" bitsize="64"/></feature></target>)";

std::string digits(std::uint64_t value) {
  return gdb::text_to_hex({reinterpret_cast<const char*>(&value), sizeof value});
}

}  // namespace

LiveGuest::LiveGuest(std::unique_ptr<MiniGuest> started,
                     const std::function<void(Model&, GuestConfig&)>& prepare)
    : guest(std::move(started)), session(prepared(prepare), guest->model) {
  session.start();
}

GuestConfig LiveGuest::prepared(const std::function<void(Model&, GuestConfig&)>& prepare) {
  spdlog::set_level(spdlog::level::off);
  GuestConfig config;
  // A slow machine must not split what a test expects to be one stop.
  config.max_pause = 60s;
  config.gdb = stub.address();
  config.max_pause_share = 1;
  config.memory = MemoryMode::kStub;  // the test itself would be the process behind it
  config.gdb_text = config.gdb.to_string();
  stub.with([&](Model& model) {
    model.documents = {{"target.xml", std::string(kTarget)}};
    model.guest_memory = [this](std::uint64_t address, std::span<std::byte> into) {
      PhysRead read{.address = GuestPhys(address), .into = into};
      guest->memory.read({&read, 1});
    };
    if (prepare) prepare(model, config);
  });
  show_registers();
  return config;
}

void LiveGuest::show_registers() {
  change([](Model& model, const MiniGuest& shown) {
    model.registers.clear();
    const x86_64::PagingRegisters& now = shown.registers;
    // The second vCPU has not come as far as the first.
    for (const auto& [number, value] :
         {std::pair{0, now.cr0}, {1, now.cr3}, {2, now.cr4}, {3, now.efer}}) {
      model.registers[fmt::format("1/{}", number)] = digits(value);
      model.registers[fmt::format("2/{}", number)] = digits(0);
    }
  });
}

std::string LiveGuest::body(const Answer& answer) {
  if (!answer.stream) return answer.body;
  std::string text;
  answer.stream([&](std::string_view piece) {
    text += piece;
    return true;
  });
  return text;
}

Json LiveGuest::get(std::string_view target) {
  const Answer answer = api.answer(target);
  const std::string text = body(answer);
  INFO(std::string(target));
  INFO(text);
  REQUIRE(answer.status == 200);
  return Json::parse(text);
}

void LiveGuest::wait_for_status(int status) {
  wait_until([&] { return api.answer("/readyz").status == status; });
}

void LiveGuest::wait_until(const std::function<bool()>& done) {
  const auto deadline = std::chrono::steady_clock::now() + 20s;
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) FAIL("it did not happen within 20 s");
    std::this_thread::sleep_for(2ms);
  }
}

}  // namespace guestscope::test
