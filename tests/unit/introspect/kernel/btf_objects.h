// BtfObjects: a booted guest, and BTF objects of the kernel's in its memory.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "introspect/btf_cache.h"
#include "tests/support/btf_builder.h"
#include "tests/support/mini_guest.h"

namespace guestscope::test {

/// A module's types: a structure of its own whose member is of a type of its base, by the names of
/// both.
inline Bytes module_types(const Btf& base, TypeId member, std::string_view name = "module_state") {
  BtfBuilder types(base.type_count(), base.string_end());
  types.aggregate(BtfKind::kStruct, name, 8, {{"counted", member, 0}});
  return types.bytes();
}

struct BtfObjects {
  BtfObjects()
      : guest(MiniGuest::booted(load_model())),
        cache(guest.model->file),
        own(load_types("mini.vmlinux.btf")) {
    GuestKernel kernel(guest.model, nullptr);
    refresh(kernel, guest);
    location = kernel.summary().location.value();
  }

  std::uint64_t put_bytes(ByteSpan bytes) {
    const std::uint64_t at = guest.allocate(bytes.size());
    guest.write(at, bytes);
    return at;
  }
  static void name(mini::btf& object, std::string_view text) { text.copy(object.name, 55); }

  mini::btf kernel_object(ByteSpan bytes) {
    mini::btf object{};
    object.data = put_bytes(bytes);
    object.data_size = static_cast<std::uint32_t>(bytes.size());
    object.id = 1;
    object.kernel_btf = 1;
    name(object, "vmlinux");
    return object;
  }
  mini::btf module_object(const Btf& base, std::uint64_t base_object, ByteSpan bytes) {
    mini::btf object = kernel_object(bytes);
    object.id = 7;
    object.base_btf = base_object;
    object.start_id = base.type_count();
    object.start_str_off = base.string_end();
    name(object, "tcp_bbr");
    return object;
  }
  Result<std::shared_ptr<const Btf>> get(std::uint64_t object) {
    KernelMemory memory(guest.memory, *location.regime, location.linear);
    return cache.get(memory, guest.model->maps->btf, GuestVirt(object));
  }
  std::string error(const mini::btf& object) {
    const auto got = get(guest.put(object));
    REQUIRE_FALSE(got);
    CHECK(got.error().code == ErrorCode::kCorrupt);
    return got.error().message;
  }
  const Btf& file_types() const { return guest.model->file->btf(); }

  MiniGuest guest;
  BtfCache cache;
  KernelLocation location;
  Bytes own;
};

}  // namespace guestscope::test
