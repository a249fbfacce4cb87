#include "tests/fuzz/fuzz_targets.h"

namespace guestscope::fuzz {

std::span<const Target> all_targets() {
  static constexpr Target kTargets[] = {
      {"packets", run_packets, packet_seeds, 5000},
      {"description", run_description, description_seeds, 3000},
      {"mtree", run_mtree, mtree_seeds, 5000},
      {"btf", run_btf, btf_seeds, 5000},
      {"dwarf", run_dwarf, dwarf_seeds, 5000},
      {"kallsyms", run_kallsyms, kallsyms_seeds, 5000},
      {"kernel_file", run_kernel_file, kernel_file_seeds, 2000},
      {"request", run_request, request_seeds, 5000},
      {"key", run_key, key_seeds, 5000},
  };
  return kTargets;
}

}  // namespace guestscope::fuzz
