// encode_value: JSON to the bytes of a BTF type, the reverse of append_value (json_value.h).
//
// Strict, since what is encoded is somebody's wish and a wrong guess would find another entry:
// every member has to be there, no other may be, and every number has to fit. Of a union one member
// is enough; where several are given they have to agree. Padding is zero.
//
// Threads: pure functions. Fails with kInvalidArgument, naming the member, what was given and what
// is expected ("key.port: 70000 does not fit u16"); with kCorrupt for a type that makes no sense.
#pragma once

#include "daemon/json_value.h"

namespace guestscope {

/// `size` bytes, of which the type's are the first. `name`: what messages call the value ("key").
Result<Bytes> encode_value(const Btf& btf, TypeId type, const Json& json, std::size_t size,
                           std::string_view name);

/// An array of char, which append_value shows as text where it is text.
bool is_text_array(const Btf& btf, TypeId type);

}  // namespace guestscope
