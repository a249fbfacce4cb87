// ProgReader: reads BPF programs level by level: the structures, what they point to, and what that
// points to; each level is one exchange for all programs of a part.
//
// Internal to bpf_progs.h. Borrows everything it is given. Threads: one; lives for one list. Never
// fails as a whole: what could not be read is in the problems of the list.
#pragma once

#include <span>

#include "introspect/bpf_progs.h"
#include "introspect/idr.h"

namespace guestscope {

class ProgReader {
 public:
  ProgReader(KernelMemory& memory, const ProgModel& model, const PerCpuOffsets& per_cpu)
      : memory_(memory), model_(model), per_cpu_(per_cpu) {}

  ProgList read(std::span<const IdrEntry> entries, Problems problems);

 private:
  /// A program on its way through the exchanges: what the next one still needs.
  struct Pending {
    ProgInfo info;
    GuestVirt aux;
    GuestVirt stats;
    GuestVirt user;
    GuestVirt btf;
    GuestVirt maps;
    std::uint64_t map_count = 0;
    GuestVirt functions;
    std::uint64_t function_count = 0;
  };

  void read_part(std::span<const IdrEntry> entries);
  void problem(const Pending& prog, std::string_view field, Error error);

  // prog_reader.cc: the program itself.
  void read_programs(std::span<const IdrEntry> entries);
  void read_aux();
  void take_aux(Pending& prog, const StructView& aux);
  std::uint64_t bounded(const Pending& prog, std::string_view field, std::uint64_t count,
                        std::size_t limit);

  // prog_pointees.cc: what it points to.
  void read_referenced();
  std::vector<GuestVirt> pointers(const Pending& prog, std::string_view field,
                                  const Result<ByteSpan>& table);
  void read_pointees();
  void read_map_ids();
  void read_functions();
  void read_users();
  void read_btf_ids();
  void read_statistics();

  KernelMemory& memory_;
  const ProgModel& model_;
  const PerCpuOffsets& per_cpu_;
  ProgList list_;
  std::vector<Pending> progs_;
  std::vector<std::vector<GuestVirt>> map_pointers_;
  std::vector<std::vector<GuestVirt>> function_pointers_;
};

}  // namespace guestscope
