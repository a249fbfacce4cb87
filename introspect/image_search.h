// What a kernel image tells without symbols: types, build id and release, found by their shape.
//
// Threads: pure functions. Each is one pass over the image (10 ms for 30 MB) when there is nothing.
// Source of truth: Documentation/bpf/btf.rst; the ELF gABI (notes); init/version.c.
#pragma once

#include <optional>
#include <string>

#include "arch/bytes.h"
#include "introspect/btf.h"

namespace guestscope {

/// The kernel's own types: of everything that is BTF, the largest that has a struct task_struct.
/// Programs that the kernel carries have BTF too. Owns a copy of the bytes.
std::optional<Btf> find_types_in_image(ByteSpan image, const std::string& name);

struct BuildIdNote {
  std::size_t at = 0;  ///< offset in the image
  std::size_t size = 0;
  std::string build_id;  ///< lower-case hex
};
/// Nothing when there is none, or several that differ. Those of ELF files that the image contains
/// (vDSO) do not count.
std::optional<BuildIdNote> find_build_id_note(ByteSpan image);
/// The same; empty for nothing.
std::string find_build_id_in_image(ByteSpan image);

/// "Linux version 6.1.0-56-cloud-amd64 (debian-kernel@…" -> the third word; else empty.
std::string release_in(std::string_view banner);
struct Banner {
  std::size_t at = 0;  ///< in the image
  std::string release;
};
/// The first banner; other texts begin with the same words ("Linux version %s (%s)").
std::optional<Banner> find_banner(ByteSpan image);

}  // namespace guestscope
