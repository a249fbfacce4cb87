// ProgReader: reads BPF programs level by level: the structures, what they point to, and what that
// points to; each level is one exchange for all programs of a part.
//
// Internal to bpf_progs.h. Borrows everything it is given. Threads: one; lives for one list. Never
// fails as a whole: what could not be read is in the problems of the list.
#pragma once

#include <span>
#include <unordered_map>

#include "introspect/bpf_progs.h"
#include "introspect/struct_batch.h"
#include "introspect/text_batch.h"

namespace guestscope {

/// The name of a program's machine code in struct bpf_prog_aux; null: this kernel has none.
const BoundField* find_symbol_field(Layouts& layouts);

class ProgReader {
 public:
  /// `known`: every program of the guest, to tell their ids by their addresses.
  ProgReader(ProgReadContext& context, std::span<const IdrEntry> known);

  ProgList read(std::span<const IdrEntry> entries, Problems problems);

 private:
  /// A program on its way through the exchanges: what the next one still needs.
  struct Pending {
    ProgInfo info;
    GuestVirt aux;
    GuestVirt stats;
    GuestVirt user;
    GuestVirt btf;
    GuestVirt attach_btf;
    GuestVirt attach_name;
    GuestVirt maps;
    std::uint64_t map_count = 0;
    GuestVirt functions;
    std::uint64_t function_count = 0;
    GuestVirt code;
    std::string symbol;     // of its machine code
    GuestVirt name_record;  // the struct bpf_func_info that names it
    std::vector<GuestVirt> map_pointers;
    std::vector<GuestVirt> function_pointers;
    std::vector<GuestVirt> function_details;  // struct bpf_prog_aux
  };

  void read_part(std::span<const IdrEntry> entries);
  void problem(const Pending& prog, std::string_view field, Error error);

  // prog_reader.cc: the program itself.
  void read_programs(std::span<const IdrEntry> entries);
  void take_cpus(const Result<ByteSpan>& booted_once);
  void take_program(const StructView& view, Pending& prog) const;
  void read_aux();
  void take_aux(Pending& prog, const StructView& aux);
  void take_attach(Pending& prog, const StructView& aux);
  std::uint64_t bounded(const Pending& prog, std::string_view field, std::uint64_t count,
                        std::size_t limit);

  // prog_pointees.cc: what it points to.
  void read_tables();
  std::vector<GuestVirt> pointers(const Pending& prog, std::string_view field,
                                  const Result<ByteSpan>& table);
  void take_user(Pending& prog, const Result<StructView>& user);
  void take_btf_ids(Pending& prog, const Result<StructView>& own, const Result<StructView>& target);
  void take_target_name(Pending& prog, const Result<std::string>& name);
  void read_pointees();
  void take_maps(Pending& prog, const StructBatch& maps, std::size_t& next);
  void take_functions(Pending& prog, const StructBatch& functions, std::size_t& next);
  void add_statistics(StructBatch& batch) const;
  void take_statistics(const StructBatch& batch);

  // prog_names.cc: names of programs and of their functions.
  std::size_t add_symbol(TextBatch& texts, GuestVirt aux) const;
  void read_function_names();
  void name_functions();
  void read_long_names();

  KernelMemory& memory_;
  const ProgModel& model_;
  Layouts& layouts_;
  const PerCpuOffsets& per_cpu_;
  const BoundField* symbol_;  // in struct bpf_prog_aux; null: this kernel has none
  std::uint64_t page_size_;
  std::vector<unsigned> cpus_;
  std::vector<bool> has_run_;                             // by place in cpus_
  std::unordered_map<std::uint64_t, std::uint64_t> ids_;  // by address
  ProgList list_;
  std::vector<Pending> progs_;
};

}  // namespace guestscope
