// BPF links: what programs (and struct_ops maps) are attached to.
//
// What a link says of itself differs from kind to kind: facts, named as `bpftool -j link show`
// names them (docs/interface.md lists them). Of a kind that this kernel's types do not describe
// only the common fields are told, and a problem says so.
//
// Threads: called by the thread that owns the memory; the results are plain values. Fails with
// kUnsupported when the kernel has no links (its symbols or types lack them), and as reading the
// list's root fails. Source of truth: struct bpf_link and what embeds it, fill_link_info() of each
// kind: kernel/bpf/syscall.c and the files named in link_*.cc.
#pragma once

#include "introspect/bpf_progs.h"
#include "introspect/facts.h"

namespace guestscope {

struct LinkInfo {
  std::uint64_t id = 0;
  GuestVirt address;          ///< of the struct bpf_link
  std::string type;           ///< "raw_tracepoint"; "type_40" for an unknown one
  std::uint64_t prog_id = 0;  ///< 0: it has no program (struct_ops), or that has no id any more
  std::string prog_type{};    ///< "tracing"; empty without a program
  Facts facts{};
};

struct LinkList {
  std::vector<LinkInfo> links;  ///< in id order
  Problems problems;
};

Result<LinkList> read_links(ProgReadContext& context);

}  // namespace guestscope
