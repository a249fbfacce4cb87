#include "gdbproto/target_description.h"

#include <doctest/doctest.h>

#include <map>

#include "gdbproto/limits.h"

namespace guestscope::gdb {
namespace {

using Documents = std::map<std::string, std::string>;

Result<TargetDescription> load(const Documents& documents) {
  return TargetDescription::load([&](const std::string& name) -> Result<std::string> {
    const auto found = documents.find(name);
    if (found == documents.end()) return fail(ErrorCode::kUnsupported, "no {}", name);
    return found->second;
  });
}

std::uint32_t number(const TargetDescription& description, std::string_view name) {
  const Register* found = description.find(name);
  REQUIRE(found != nullptr);
  return found->number;
}

TEST_CASE("registers are numbered in the order of inclusion, across documents") {
  const auto description =
      load({{"target.xml",
             "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
             "<architecture>i386:x86-64</architecture><xi:include href=\"a.xml\"/>"
             "<xi:include href=\"b.xml\"/></target>"},
            {"a.xml",
             "<feature name=\"a\"><reg name=\"r0\" bitsize=\"64\"/>"
             "<!-- <reg name=\"ghost\" bitsize=\"64\"/> -->"
             "<reg name=\"r1\" bitsize=\"32\" type=\"int\"/></feature>"},
            {"b.xml",
             "<feature name=\"b\"><flags id=\"f\" size=\"4\"><field name=\"r9\"/></flags>"
             "<reg name=\"r2\" bitsize=\"64\"/><reg name=\"r40\" bitsize=\"64\" regnum=\"40\"/>"
             "<reg name=\"r41\" bitsize=\"128\"/></feature>"}});
  REQUIRE(description);
  CHECK(description->architecture() == "i386:x86-64");
  CHECK(number(*description, "r0") == 0);
  CHECK(number(*description, "r1") == 1);
  CHECK(number(*description, "r2") == 2);
  CHECK(number(*description, "r40") == 40);
  CHECK(number(*description, "r41") == 41);
  CHECK(description->find("r41")->bits == 128);
  CHECK(description->find("ghost") == nullptr);
  CHECK(description->find("r9") == nullptr);
  CHECK(description->registers().size() == 5);
}

TEST_CASE("of two registers with one name the first is meant") {
  const auto description = load({{"target.xml",
                                  "<target><feature><reg name=\"x\" bitsize=\"8\"/>"
                                  "<reg name=\"x\" bitsize=\"16\"/></feature></target>"}});
  REQUIRE(description);
  CHECK(number(*description, "x") == 0);
}

TEST_CASE("a document that includes itself, at once or by way of another, is an error") {
  const auto at_once = load({{"target.xml", "<target><xi:include href=\"target.xml\"/></target>"}});
  REQUIRE_FALSE(at_once);
  CHECK(at_once.error().message.find("includes itself") != std::string::npos);
  const auto by_way = load({{"target.xml", "<target><xi:include href=\"a\"/></target>"},
                            {"a", "<feature><xi:include href=\"b\"/></feature>"},
                            {"b", "<feature><xi:include href=\"a\"/></feature>"}});
  REQUIRE_FALSE(by_way);
  CHECK(by_way.error().code == ErrorCode::kProtocol);
}

TEST_CASE("depth, number of documents, size and number of registers are limited") {
  Documents chain{{"target.xml", "<target><xi:include href=\"0\"/></target>"}};
  for (int i = 0; i < 20; ++i)
    chain[std::to_string(i)] =
        "<feature><xi:include href=\"" + std::to_string(i + 1) + "\"/></feature>";
  chain["20"] = "<feature/>";
  CHECK_FALSE(load(chain));

  std::string many = "<target>";
  for (int i = 0; i < 100; ++i) many += "<xi:include href=\"empty\"/>";
  CHECK_FALSE(load({{"target.xml", many + "</target>"}, {"empty", "<feature/>"}}));

  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "<feature>";
  CHECK_FALSE(load({{"target.xml", deep}}));

  std::string registers = "<target>";
  for (int i = 0; i < 9000; ++i) registers += "<reg name=\"r\" bitsize=\"8\"/>";
  CHECK_FALSE(load({{"target.xml", registers + "</target>"}}));

  CHECK_FALSE(load({{"target.xml", "<target>" + std::string(kMaxDocument, ' ') + "</target>"}}));
}

TEST_CASE("registers that make no sense are refused") {
  for (const char* attributes :
       {"bitsize=\"8\"", "name=\"\" bitsize=\"8\"", "name=\"x\"", "name=\"x\" bitsize=\"0\"",
        "name=\"x\" bitsize=\"-8\"", "name=\"x\" bitsize=\"99999999999999999999\"",
        "name=\"x\" bitsize=\"8\" regnum=\"-1\"", "name=\"x\" bitsize=\"8\" regnum=\"5000000000\"",
        "name=\"x\" bitsize=\"8\" regnum=\"\""}) {
    CAPTURE(attributes);
    CHECK_FALSE(load({{"target.xml", "<target><reg " + std::string(attributes) + "/></target>"}}));
  }
}

TEST_CASE("a document cut off anywhere is an error or has fewer registers, never a crash") {
  const std::string whole =
      "<target><feature name=\"a\"><reg name=\"r0\" bitsize=\"64\"/></feature></target>";
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    const auto description = load({{"target.xml", whole.substr(0, cut)}});
    if (description) CHECK(description->registers().size() <= 1);
  }
}

TEST_CASE("a missing document is the fetcher's error") {
  const auto description = load({});
  REQUIRE_FALSE(description);
  CHECK(description.error().code == ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace guestscope::gdb
