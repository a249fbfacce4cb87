#include "introspect/kallsyms_names.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "introspect/limits.h"

namespace guestscope {
namespace {

constexpr std::size_t kTokens = 256;
constexpr std::size_t kMarkerStep = 256;  // one marker for so many symbols
constexpr std::size_t kLabelAlign = 8;    // at most; 4 in recent kernels

// Token 47's terminator, and "0" to "9". Token 47 is '/', or a longer piece: any string at all.
constexpr std::string_view kDigits("\0000\0001\0002\0003\0004\0005\0006\0007\0008\0009\0", 21);

std::uint32_t word(ByteSpan image, std::size_t at) {
  return static_cast<std::uint32_t>(load_le(&image[at], 4));
}

// Where the token after the one at `at` begins; 0 when it does not end within the image.
std::size_t next_token(ByteSpan image, std::size_t at) {
  if (at >= image.size()) return 0;
  const std::size_t window = std::min(image.size() - at, kMaxNameBytes);
  const void* end = std::memchr(&image[at], 0, window);
  if (end == nullptr) return 0;
  return static_cast<std::size_t>(static_cast<const std::byte*>(end) - image.data()) + 1;
}

// The tables when token_index is at `index_at` and the token "0" at `zero_at`.
std::optional<KallsymsTokens> tokens_with_index(ByteSpan image, std::size_t zero_at,
                                                std::size_t index_at) {
  if (index_at > image.size() || image.size() - index_at < kTokens * 2) return std::nullopt;
  const auto index = [&](std::size_t token) {
    return static_cast<std::size_t>(load_le(&image[index_at + token * 2], 2));
  };
  if (index(0) != 0 || index('0') > zero_at) return std::nullopt;
  KallsymsTokens tokens{.begin = zero_at - index('0'), .end = index_at + kTokens * 2, .text = {}};
  std::size_t at = tokens.begin;
  for (std::size_t token = 0; token < kTokens; ++token) {
    if (index(token) != at - tokens.begin) return std::nullopt;
    const std::size_t next = next_token(image, at);
    if (next == 0 || next > index_at) return std::nullopt;
    tokens.text[token] = {reinterpret_cast<const char*>(&image[at]), next - at - 1};
    at = next;
  }
  return tokens;
}

// Length of the compressed name at `at`, and of the number that says so.
struct NameLength {
  std::size_t prefix = 1;
  std::size_t size = 0;
};

NameLength name_length(ByteSpan image, std::size_t at, std::size_t limit) {
  const auto first = std::to_integer<std::size_t>(image[at]);
  if (first < 0x80 || limit - at < 2) return {.prefix = 1, .size = first < 0x80 ? first : 0};
  return {.prefix = 2,
          .size = (first & 0x7f) | std::to_integer<std::size_t>(image[at + 1] & std::byte{0x7f})
                                       << 7};
}

// A word 0 that may be the first marker, and the one behind it, which says how long the first 256
// names are.
struct FirstMarker {
  std::uint32_t second = 0;
  std::size_t at = 0;
};

// Of the words in front of the tokens; by `second`. Between markers and tokens only the symbols by
// name can lie, in which a word is hardly ever 0.
std::vector<FirstMarker> first_markers(ByteSpan image, std::size_t limit) {
  std::vector<FirstMarker> found;
  for (std::size_t at = limit; at >= 4 && found.size() < kMaxKallsymsMarkers;) {
    at -= 4;
    if (limit - at < 8 || word(image, at) != 0) continue;
    const std::uint32_t second = word(image, at + 4);
    if (second >= 2 * kMarkerStep) found.push_back({.second = second, .at = at});
  }
  std::ranges::sort(found, {}, &FirstMarker::second);
  return found;
}

// Where `count` names that begin at `first` end; 0 when they do not, or beyond `limit`.
std::size_t names_end(ByteSpan image, std::size_t first, std::size_t count, std::size_t limit,
                      std::size_t& steps) {
  std::size_t at = first;
  for (std::size_t i = 0; i < count; ++i) {
    if (steps == 0 || at >= limit) return 0;
    --steps;
    const NameLength length = name_length(image, at, limit);
    if (length.size == 0 || length.size + length.prefix > limit - at) return 0;
    at += length.prefix + length.size;
  }
  return at;
}

// Every marker is where its symbol begins, and the first is right behind the last name.
bool markers_agree(ByteSpan image, const KallsymsNames& names, std::size_t markers,
                   std::size_t limit, std::size_t& steps) {
  if ((names.count + kMarkerStep - 1) / kMarkerStep * 4 > limit - markers) return false;
  std::size_t at = names.first;
  for (std::size_t i = 0; i < names.count; i += kMarkerStep) {
    if (word(image, markers + i / kMarkerStep * 4) != at - names.first) return false;
    at = names_end(image, at, std::min(kMarkerStep, names.count - i), markers, steps);
    if (at == 0) return false;
  }
  return markers - at < kLabelAlign;
}

// num_syms is at `at`: do names and markers follow? Wherever one begins, names soon seem to follow
// one another as they should: it is the markers that tell.
std::optional<KallsymsNames> names_at(ByteSpan image, std::size_t at, std::size_t limit,
                                      const std::vector<FirstMarker>& markers, std::size_t& steps) {
  const std::size_t count = word(image, at);
  // A name has two bytes at least: its length and a token.
  if (count < kMinKallsymsSymbols || count > kMaxKallsymsSymbols || count > (limit - at) / 2)
    return std::nullopt;
  // Labels are aligned to 4 or to 8 bytes, and no name has the length 0.
  KallsymsNames names{.begin = at, .first = at + 4, .count = count};
  if (word(image, names.first) == 0) names.first += 4;
  const std::size_t second = names_end(image, names.first, kMarkerStep, limit, steps);
  if (second == 0) return std::nullopt;
  for (const FirstMarker& marker :
       std::ranges::equal_range(markers, second - names.first, {}, &FirstMarker::second))
    if (marker.at >= second && markers_agree(image, names, marker.at, limit, steps)) return names;
  return std::nullopt;
}

bool is_type(char letter) {
  return (letter >= 'A' && letter <= 'Z') || (letter >= 'a' && letter <= 'z') || letter == '?';
}

}  // namespace

std::optional<KallsymsTokens> find_kallsyms_tokens(ByteSpan image, std::size_t& from) {
  while (from < image.size()) {
    const void* found = ::memmem(&image[from], image.size() - from, kDigits.data(), kDigits.size());
    if (found == nullptr) break;
    const auto digits =
        static_cast<std::size_t>(static_cast<const std::byte*>(found) - image.data());
    from = digits + 1;
    const std::size_t zero_at = digits + 1;
    std::size_t end = zero_at;
    for (std::size_t token = '0'; token < kTokens && end != 0; ++token)
      end = next_token(image, end);
    if (end == 0) continue;
    for (std::size_t gap = 0; gap < kLabelAlign; ++gap)
      if (auto tokens = tokens_with_index(image, zero_at, end + gap)) return tokens;
  }
  from = image.size();
  return std::nullopt;
}

std::optional<KallsymsNames> find_kallsyms_names(ByteSpan image, std::size_t tokens_begin) {
  if (tokens_begin > image.size()) return std::nullopt;
  const std::vector<FirstMarker> markers = first_markers(image, tokens_begin);
  std::size_t steps = kMaxKallsymsSteps;
  // Backwards from the tokens, in words: all labels are aligned, that of the tokens too.
  for (std::size_t at = tokens_begin; at >= 4 && steps != 0;) {
    at -= 4;
    if (tokens_begin - at < 12) continue;
    if (auto names = names_at(image, at, tokens_begin, markers, steps)) return names;
  }
  return std::nullopt;
}

bool expand_kallsyms_names(ByteSpan image, const KallsymsNames& names, const KallsymsTokens& tokens,
                           Kallsyms& into) {
  into.symbols.reserve(names.count);
  std::size_t at = names.first;
  for (std::size_t i = 0; i < names.count; ++i) {
    const NameLength length = name_length(image, at, image.size());
    at += length.prefix;
    const std::size_t begin = into.names.size();
    for (const std::byte token : image.subspan(at, length.size)) {
      into.names += tokens.text[std::to_integer<std::size_t>(token)];
      if (into.names.size() - begin > kMaxNameBytes) return false;
    }
    at += length.size;
    if (into.names.size() - begin < 2 || into.names.size() > kMaxKallsymsNameBytes) return false;
    const char type = into.names[begin];
    if (!is_type(type)) return false;
    into.names.erase(begin, 1);
    into.symbols.push_back({.value = 0,
                            .name = static_cast<std::uint32_t>(begin),
                            .name_size = static_cast<std::uint16_t>(into.names.size() - begin),
                            .type = type});
  }
  into.names.shrink_to_fit();
  return true;
}

}  // namespace guestscope
