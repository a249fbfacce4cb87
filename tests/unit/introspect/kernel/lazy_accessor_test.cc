#include "introspect/lazy_accessor.h"

#include <doctest/doctest.h>

namespace guestscope {
namespace {

using std::chrono::milliseconds;

Result<int> not_yet() { return fail(ErrorCode::kNotReady, "not yet"); }
Result<int> never() { return fail(ErrorCode::kUnsupported, "no symbol"); }

TEST_CASE("an accessor keeps its last error until it succeeds, and then its value") {
  LazyAccessor<int> accessor;
  const auto start = LazyAccessor<int>::Clock::now();
  CHECK_FALSE(accessor.attempt(not_yet, start));
  CHECK(accessor.get() == nullptr);
  CHECK(accessor.status().state == AccessorState::kWaiting);
  CHECK(accessor.status().last_error->message == "not yet");
  CHECK_FALSE(accessor.attempt([] { return Result<int>(7); }, start + milliseconds(1830)));
  REQUIRE(accessor.get() != nullptr);
  CHECK(*accessor.get() == 7);
  CHECK(accessor.status().state == AccessorState::kReady);
  CHECK_FALSE(accessor.status().last_error.has_value());
  CHECK(accessor.status().attempts == 2);
  CHECK(accessor.status().ready_after == milliseconds(1830));
}

TEST_CASE("a filled or failed accessor is not tried again before a reset") {
  LazyAccessor<int> accessor;
  int calls = 0;
  const auto count = [&] { return ++calls, Result<int>(1); };
  accessor.attempt(count);
  accessor.attempt(count);
  CHECK(calls == 1);
  accessor.reset();
  CHECK(accessor.get() == nullptr);
  CHECK(accessor.status().attempts == 0);
  CHECK(accessor.attempt(never));
  CHECK(accessor.status().state == AccessorState::kFailed);
  accessor.attempt(count);
  CHECK(calls == 1);
}

TEST_CASE("the tenth failure asks for a warning, no other does") {
  LazyAccessor<int> accessor;
  for (int i = 1; i < 10; ++i) CHECK_FALSE(accessor.attempt(not_yet));
  CHECK(accessor.attempt(not_yet));
  CHECK_FALSE(accessor.attempt(not_yet));
}

}  // namespace
}  // namespace guestscope
