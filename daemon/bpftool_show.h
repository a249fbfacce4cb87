// What `bpftool -j prog show` and `bpftool -j link show` print, from the outside: one object each.
//
// Left out is what bpftool has from elsewhere than the program or link: "pids", "pinned", the wall
// clock's "loaded_at", "metadata", and the device of offloaded programs. Threads: pure functions.
// Source of truth: prog.c and link.c of bpftool 7.1.
#pragma once

#include <string>

#include "introspect/bpf_links.h"
#include "introspect/bpf_progs.h"

namespace guestscope {

std::string bpftool_prog(const ProgInfo& prog);
std::string bpftool_link(const LinkInfo& link);

/// `[…]` of the objects, as a whole answer.
template <typename Item>
std::string bpftool_list(const std::vector<Item>& items, std::string (*object)(const Item&)) {
  std::string text = "[";
  for (const Item& item : items) text += (text.size() == 1 ? "" : ",") + object(item);
  return text + "]\n";
}

}  // namespace guestscope
