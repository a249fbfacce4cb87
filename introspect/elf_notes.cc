#include "introspect/elf_notes.h"

#include <elf.h>

namespace guestscope {

namespace {

struct NoteHeader {
  le32 name_size;
  le32 content_size;
  le32 type;
};

constexpr std::size_t kMaxBuildIdBytes = 64;  // SHA-1 has 20, SHA-256 32

std::size_t padded(std::size_t size) { return (size + 3) & ~std::size_t{3}; }

std::string hex(ByteSpan bytes) {
  std::string text;
  for (const std::byte byte : bytes) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace

std::string find_build_id(ByteSpan notes) {
  const ByteReader reader(notes);
  for (std::size_t at = 0; at < notes.size();) {
    const auto header = reader.get<NoteHeader>(at);
    if (!header) return {};
    const std::size_t name_at = at + sizeof(NoteHeader);
    const std::size_t content_at = name_at + padded(header->name_size);
    const auto name = reader.bytes(name_at, header->name_size);
    const auto content = reader.bytes(content_at, header->content_size);
    if (!name || !content) return {};
    if (header->type == NT_GNU_BUILD_ID && text_in(*name) == ELF_NOTE_GNU && !content->empty() &&
        content->size() <= kMaxBuildIdBytes)
      return hex(*content);
    at = content_at + padded(header->content_size);
  }
  return {};
}

}  // namespace guestscope
