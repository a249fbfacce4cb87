// Programs, links and BTF objects as the objects of the interface (docs/interface.md).
//
// Threads: pure functions.
#pragma once

#include "daemon/json_value.h"
#include "introspect/bpf_links.h"
#include "introspect/btf_objects.h"

namespace guestscope {

/// `whole`: with the counters of each CPU and the functions of its machine code.
Json prog_json(const ProgInfo& prog, bool whole);
Json link_json(const LinkInfo& link);
Json btf_json(const BtfInfo& object);

}  // namespace guestscope
