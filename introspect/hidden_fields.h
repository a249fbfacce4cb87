// Hidden fields: what the kernel keeps for itself inside a map's values (locks, timers, pointers to
// its own objects) and does not hand out: a look-up by system call has zeros in their place.
//
// Which these are, the kernel has found in the value's type when the map was made, and has noted:
// since 6.2 in a list (struct btf_record), before in an offset for each kind. That note is read, so
// that what this kernel takes for a plain structure is one.
//
// Threads: called by the thread that owns the memory. Source of truth: check_and_init_map_value()
// and bpf_obj_init_field() in include/linux/bpf.h.
#pragma once

#include "introspect/map_contents.h"

namespace guestscope {

/// Of the map's values, when their type can have any at all; no read otherwise.
Result<std::vector<HiddenField>> read_hidden_fields(MapReadContext& context, const MapInfo& map,
                                                    const Btf& btf, TypeId value_type);

/// The value as a system call gives it: itself, or a copy made in `scratch`.
ByteSpan as_looked_up(const MapContents& contents, ByteSpan value, Bytes& scratch);

}  // namespace guestscope
