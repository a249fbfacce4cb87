#include "daemon/renderings.h"

#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace guestscope {
namespace {

TEST_CASE("what several want of one snapshot is made once, and each gets it") {
  Renderings renderings;
  std::atomic<int> made = 0;
  std::atomic<int> right = 0;
  std::vector<std::thread> askers;
  for (int i = 0; i < 8; ++i)
    askers.emplace_back([&] {
      const auto answer = renderings.once("/runqueues", [&] {
        ++made;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return Answer{.body = "four"};
      });
      right += answer->body == "four";
    });
  for (std::thread& asker : askers) asker.join();
  CHECK(made == 1);
  CHECK(right == 8);
  CHECK(renderings.once("/runqueues?tasks=0", [] { return Answer{.body = "two"}; })->body == "two");
  CHECK(renderings.once("/runqueues", [] { return Answer{.body = "new"}; })->body == "four");
}

TEST_CASE("what cannot be made is an exception for all who want it, and for nobody else") {
  Renderings renderings;
  const auto fails = []() -> Answer { throw std::runtime_error("no memory"); };
  CHECK_THROWS_WITH(renderings.once("a", fails), "no memory");
  CHECK_THROWS_WITH(renderings.once("a", [] { return Answer{}; }), "no memory");
  CHECK(renderings.once("b", [] { return Answer{.status = 404}; })->status == 404);
}

}  // namespace
}  // namespace guestscope
