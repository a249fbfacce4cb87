// Input: the text of `info mtree -f`.
#include "gdbproto/mtree.h"
#include "tests/fuzz/fuzz_targets.h"
#include "tests/support/qemu_model.h"

namespace guestscope::fuzz {

void run_mtree(ByteSpan input) {
  const auto ram = gdb::parse_mtree(as_text(input));
  if (!ram) return;
  require(!ram->blocks().empty(), "a map without RAM is an error");
  std::uint64_t end = 0;
  bool first = true;
  for (const RamBlock& block : ram->blocks()) {
    const std::uint64_t begin = block.begin.value();
    require(block.size != 0, "no block is empty");
    require(first || begin >= end, "blocks are in order and apart");
    require(block.size - 1 <= ~std::uint64_t{0} - begin, "a block ends within 64 bits");
    require(ram->contains(block.begin, 1), "a block is in the map");
    end = begin + block.size;
    first = false;
  }
}

std::vector<Bytes> mtree_seeds() {
  return {from_text(gdb::testing::kMtree),
          from_text("FlatView #0\n AS \"memory\", root: system\n"
                    "  0000000000000000-ffffffffffffffff (prio 0, ram): all\n"),
          from_text("FlatView #0\r\n AS \"memory\"\r\n  0-0 (prio 0, nv-ram): (prio 1, i/o): x\r\n"
                    "  0000000000001000-0000000000001fff (prio -1, rom): y KVM\r\n")};
}

}  // namespace guestscope::fuzz
