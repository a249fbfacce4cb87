#include "introspect/guest_strings.h"

#include <algorithm>

namespace guestscope {

namespace {

constexpr std::size_t kPageBytes = 4096;

}  // namespace

std::vector<Result<std::string>> read_strings(KernelMemory& memory,
                                              std::span<const GuestVirt> addresses,
                                              std::size_t max) {
  max = std::min(max, kPageBytes);
  ReadBatch heads;
  heads.reserve(addresses.size());
  for (const GuestVirt at : addresses)
    heads.add(at, std::min<std::size_t>(max, at.bytes_to_boundary(kPageBytes)));
  heads.read(memory);
  std::vector<Result<std::string>> strings;
  strings.reserve(addresses.size());
  ReadBatch tails;
  std::vector<std::size_t> cut;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto head = heads[i];
    if (!head) {
      strings.emplace_back(std::unexpected(head.error()));
      continue;
    }
    strings.emplace_back(std::string(text_in(*head)));
    if (strings[i]->size() < head->size() || head->size() == max) continue;
    tails.add(addresses[i].wrapping_add(head->size()), max - head->size());
    cut.push_back(i);
  }
  tails.read(memory);
  for (std::size_t i = 0; i < cut.size(); ++i) {
    const auto tail = tails[i];
    if (tail)
      strings[cut[i]]->append(text_in(*tail));
    else
      strings[cut[i]] = std::unexpected(tail.error());
  }
  return strings;
}

}  // namespace guestscope
