#include "introspect/text_batch.h"

#include <algorithm>

namespace guestscope {

namespace {

constexpr std::uint64_t kPage = 4096;  // the smallest there is
// What is read of each string at first: names seldom are longer.
constexpr std::uint64_t kFirstBytes = 128;

}  // namespace

bool TextBatch::Text::is_complete() const {
  return error || bytes.size() >= limit || std::ranges::find(bytes, std::byte{0}) != bytes.end();
}

std::size_t TextBatch::add(GuestVirt address, std::size_t limit) {
  texts_.push_back({.address = address, .limit = limit});
  return texts_.size() - 1;
}

void TextBatch::announce(std::vector<VirtRead>& reads) {
  for (Text& text : texts_) {
    if (text.address.is_null()) {
      text.error =
          Error{.code = ErrorCode::kNotMapped, .message = "null pointer", .path = {}, .address = 0};
      continue;
    }
    text.error.reset();
    text.bytes.assign(
        std::min<std::uint64_t>({text.limit, kFirstBytes, text.address.bytes_to_boundary(kPage)}),
        std::byte{0});
    reads.push_back({.address = text.address, .into = text.bytes});
  }
}

void TextBatch::take(std::span<VirtRead>& reads) {
  for (Text& text : texts_) {
    if (text.address.is_null()) continue;
    text.error = std::move(reads.front().error);
    reads = reads.subspan(1);
  }
}

void TextBatch::finish(KernelMemory& memory) {
  for (;;) {
    std::vector<VirtRead> reads;
    std::vector<Text*> owners;
    for (Text& text : texts_) {
      if (text.is_complete()) continue;
      const std::size_t done = text.bytes.size();
      const GuestVirt rest = text.address.wrapping_add(done);
      text.bytes.resize(std::min<std::size_t>(text.limit, done + rest.bytes_to_boundary(kPage)));
      reads.push_back({.address = rest, .into = std::span(text.bytes).subspan(done)});
      owners.push_back(&text);
    }
    if (reads.empty()) return;
    memory.read(reads);
    for (std::size_t i = 0; i < reads.size(); ++i) owners[i]->error = std::move(reads[i].error);
  }
}

Result<std::string> TextBatch::operator[](std::size_t index) const {
  const Text& text = texts_[index];
  if (text.error) return std::unexpected(*text.error);
  return std::string(text_in(text.bytes));
}

std::vector<Result<std::string>> read_strings(KernelMemory& memory,
                                              std::span<const GuestVirt> addresses,
                                              std::size_t limit) {
  TextBatch texts;
  for (const GuestVirt address : addresses) texts.add(address, limit);
  texts.read(memory);
  std::vector<Result<std::string>> strings;
  strings.reserve(addresses.size());
  for (std::size_t i = 0; i < addresses.size(); ++i) strings.push_back(texts[i]);
  return strings;
}

}  // namespace guestscope
