// Input: documents, separated by NUL; the first is target.xml, the name of any other is reduced to
// its place.
#include <numeric>
#include <string>

#include "gdbproto/limits.h"
#include "gdbproto/target_description.h"
#include "tests/fuzz/fuzz_targets.h"

namespace guestscope::fuzz {

void run_description(ByteSpan input) {
  std::vector<std::string> documents;
  std::string_view rest = as_text(input);
  while (documents.size() < 16) {
    const std::size_t end = rest.find('\0');
    documents.emplace_back(rest.substr(0, end));
    if (end == rest.npos) break;
    rest.remove_prefix(end + 1);
  }
  std::size_t fetched = 0;
  const auto loaded =
      gdb::TargetDescription::load([&](const std::string& name) -> Result<std::string> {
        require(++fetched <= gdb::kMaxDocuments, "documents are limited");
        if (name == "target.xml") return documents[0];
        if (name.empty()) return fail(ErrorCode::kNotFound, "no such document");
        return documents[static_cast<unsigned char>(name.back()) % documents.size()];
      });
  if (!loaded) return;
  require(loaded->registers().size() <= gdb::kMaxRegisters, "registers are limited");
  for (const gdb::Register& each : loaded->registers()) {
    const gdb::Register* found = loaded->find(each.name);
    require(found != nullptr && found->name == each.name, "every register is found by its name");
  }
}

std::vector<Bytes> description_seeds() {
  using namespace std::string_view_literals;
  std::vector<Bytes> seeds;
  for (
      const std::string_view text :
      {R"(<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target>)"
       R"(<architecture>i386:x86-64</architecture><xi:include href="1"/></target>)"
       "\0"
       R"(<feature name="core"><!-- <reg name="x"/> --><reg name="rax" bitsize="64"/>)"
       R"(<reg name="cr3" bitsize="64" regnum="40"/><reg name="eflags" bitsize="32"/></feature>)"sv,
       R"(<target><xi:include href="0"/></target>)"sv,
       R"(<target><feature><reg name="a" bitsize="99999999999" regnum="-1"/></feature></target>)"sv,
       "<target><xi:include href=\"1\"/><xi:include href=\"2\"/></target>\0"
       "<feature><xi:include href=\"2\"/></feature>\0<feature><reg name=\"a\" bitsize=\"8\"/></feature>"sv})
    seeds.push_back(from_text(text));
  return seeds;
}

}  // namespace guestscope::fuzz
