// Input: the bytes of a kernel image.
#include <utility>

#include "introspect/kallsyms.h"
#include "introspect/symbols.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/kallsyms_builder.h"

namespace guestscope::fuzz {

namespace {

constexpr std::uint64_t kText = 0xffffffff81000000;

}  // namespace

void run_kallsyms(ByteSpan input) {
  for (const std::uint64_t address : {std::uint64_t{0}, kText}) {
    auto found = find_kallsyms(input, address, Machine::kAarch64);
    if (!found) continue;
    require(found->begin < found->end && found->end <= input.size(), "tables lie in the image");
    std::uint64_t previous = 0;
    for (const KallsymsSymbol& symbol : found->symbols) {
      require(found->name_of(symbol).size() == symbol.name_size && symbol.name_size > 0,
              "every symbol has a name");
      require(symbol.type == 'A' || symbol.value >= previous, "symbols are sorted");
      if (symbol.type != 'A') previous = symbol.value;
    }
    const std::size_t count = found->symbols.size();
    const auto table = SymbolTable::from_kallsyms(*std::move(found), "fuzz");
    require(table.size() == count, "every symbol is in the table");
    static_cast<void>(table.find("map_idr"));
    static_cast<void>(table.containing(address + input.size() / 2));
  }
}

std::vector<Bytes> kallsyms_seeds() {
  using test::KallsymsShape;
  std::vector<Bytes> seeds;
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    const bool per_cpu = shape.encoding == KallsymsShape::Encoding::kPerCpu;
    seeds.push_back(test::kallsyms_of(kText, 260, per_cpu).image(shape, kText));
    require(find_kallsyms(seeds.back(), kText, Machine::kX86_64).has_value(),
            "the seed has tables");
  }
  return seeds;
}

}  // namespace guestscope::fuzz
