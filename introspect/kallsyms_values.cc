#include "introspect/kallsyms_values.h"

#include <elf.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "introspect/limits.h"

namespace guestscope {
namespace {

enum class Encoding : std::uint8_t { kUnsigned, kPerCpu, kPlace, kAbsolute };

// One way to read the tables, not yet proved.
struct Guess {
  Encoding encoding = Encoding::kUnsigned;
  std::size_t at = 0;       // of the first entry
  std::size_t base_at = 0;  // of relative_base, for the encodings that have one
  std::size_t end = 0;
};

// "A number, not a place": what no 64-bit kernel's image lies at.
constexpr std::uint64_t kLowestKernel = 1ULL << 63;
// Documentation/arch/arm64/booting.rst: the image is placed at a 2 MiB aligned base.
constexpr std::uint64_t kAarch64ImageAlign = 2U << 20;

std::uint64_t padded(std::uint64_t size, std::uint64_t to) { return (size + to - 1) / to * to; }

class ValueReader {
 public:
  ValueReader(const KallsymsPlace& place, Kallsyms& into)
      : place_(place), reader_(place.image), into_(into), count_(into.symbols.size()) {}

  Result<void> run() {
    bool all_inside = true;
    for (const Guess& guess : guesses()) {
      if (guess.at > guess.end || guess.end > reader_.size()) {
        all_inside = false;
        continue;
      }
      if (!decode(guess)) continue;
      into_.begin = std::min(guess.at, place_.num_syms);
      into_.end = guess.end > place_.tokens_end ? behind_seqs(guess.end) : place_.tokens_end;
      return {};
    }
    if (!all_inside)
      return fail(ErrorCode::kNotFound, "kallsyms: the addresses of its {} symbols are not in here",
                  count_);
    return fail(ErrorCode::kCorrupt,
                "kallsyms: the addresses of its {} symbols cannot be told: they do not ascend, or "
                "not around the table",
                count_);
  }

 private:
  std::vector<Guess> guesses() const {
    const std::size_t words = 4 * count_;
    std::vector<Guess> all;
    // Behind the tokens. relative_base is aligned to 8, as seen from the tables.
    const std::size_t last = place_.tokens_end;
    all.push_back({Encoding::kPlace, last, 0, last + words});
    for (const std::size_t base_at : {last + padded(words, 8), last + words})
      for (const Encoding encoding : {Encoding::kUnsigned, Encoding::kPerCpu})
        all.push_back({encoding, last, base_at, base_at + 8});
    all.push_back({Encoding::kAbsolute, last, 0, last + 8 * count_});
    // In front of num_syms. What would begin before the image wraps around, and is left out by its
    // end being smaller.
    const std::size_t end = place_.num_syms;
    for (const Encoding encoding : {Encoding::kUnsigned, Encoding::kPerCpu})
      all.push_back({encoding, end - 8 - padded(words, 8), end - 8, end});
    all.push_back({Encoding::kAbsolute, end - 8 * count_, 0, end});
    return all;
  }

  // Where seqs_of_names ends, if it is at `at`: numbers of symbols, in 3 bytes, the highest first.
  std::size_t behind_seqs(std::size_t at) const {
    if (!reader_.contains(at, 3 * count_)) return at;
    for (std::size_t i = 0; i < count_; ++i) {
      const std::byte* seq = &place_.image[at + 3 * i];
      if ((load_le(seq, 1) << 16 | load_le(seq + 1, 1) << 8 | load_le(seq + 2, 1)) >= count_)
        return at;
    }
    return at + 3 * count_;
  }

  std::uint64_t word(std::size_t at) const { return load_le(&place_.image[at], 4); }
  static std::uint64_t extended(std::uint64_t word) {
    return static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(word)});
  }

  // The values relative to a base of 0. Addresses wrap around: all arithmetic is modulo 2^64.
  bool decode(const Guess& guess) {
    first_in_image_ = count_;
    std::uint64_t previous = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      const auto [value, absolute] = entry(guess, i);
      KallsymsSymbol& symbol = into_.symbols[i];
      symbol.value = value;
      if (!absolute && first_in_image_ == count_) {
        first_in_image_ = i;
      } else if (value < previous || (absolute && first_in_image_ < i)) {
        return false;
      }
      previous = value;
    }
    if (first_in_image_ == count_) return false;
    const auto base = find_base(guess);
    if (!base) return false;
    for (std::size_t i = 0; i < first_in_image_; ++i) into_.symbols[i].type = 'A';
    for (std::size_t i = first_in_image_; i < count_; ++i) into_.symbols[i].value += *base;
    return true;
  }

  struct Entry {
    std::uint64_t value = 0;
    bool absolute = false;
  };
  // Values in the image are biased so that they ascend as unsigned numbers.
  Entry entry(const Guess& guess, std::size_t i) const {
    const std::size_t at = guess.at + i * (guess.encoding == Encoding::kAbsolute ? 8 : 4);
    switch (guess.encoding) {
      case Encoding::kUnsigned: return {.value = word(at)};
      case Encoding::kPerCpu: {
        const std::uint64_t offset = extended(word(at));
        if (offset < kLowestKernel) return {.value = offset, .absolute = true};
        return {.value = ~offset};
      }
      case Encoding::kPlace: return {.value = at + extended(word(at)) + kBias};
      case Encoding::kAbsolute: {
        const std::uint64_t value = load_le(&place_.image[at], 8);
        return {.value = value, .absolute = value < kLowestKernel};
      }
    }
    return {};
  }

  // What is to be added to the values.
  std::optional<std::uint64_t> find_base(const Guess& guess) const {
    if (guess.encoding == Encoding::kPlace) return fits(place_.address - kBias);
    const bool relative = guess.encoding != Encoding::kAbsolute;
    const std::uint64_t stored = relative ? load_le(&place_.image[guess.base_at], 8) : 0;
    if (place_.address != 0) {
      if (const auto base = fits(stored)) return base;
    } else if (const auto text = offset_of_text()) {
      return fits(0 - *text);
    }
    if (!relative || place_.machine != Machine::kAarch64) return std::nullopt;
    // The linker may have left a 0 in relative_base that the relocations fill in at boot.
    if (const auto base = relocated(guess.base_at)) return fits(*base);
    if (place_.address != 0 || stored == 0) return std::nullopt;
    return fits(stored % kAarch64ImageAlign);
  }

  std::optional<std::uint64_t> offset_of_text() const {
    for (std::size_t i = first_in_image_; i < count_; ++i)
      if (into_.name_of(into_.symbols[i]) == "_text") return into_.symbols[i].value;
    return std::nullopt;
  }

  // The base, if with it the tables lie within the image that they describe.
  std::optional<std::uint64_t> fits(std::uint64_t base) const {
    const std::uint64_t first = into_.symbols[first_in_image_].value + base;
    const std::uint64_t last = into_.symbols[count_ - 1].value + base;
    const std::uint64_t here = place_.address + place_.num_syms;
    if (first > here || here > last) return std::nullopt;
    return base;
  }

  // One of the image's own relocations: {its place, R_AARCH64_RELATIVE, the value to put there},
  // places and values being link addresses.
  struct Relocation {
    std::uint64_t place = 0;
    std::uint64_t value = 0;
  };
  std::optional<Relocation> relocation(std::size_t at) const {
    if (!reader_.contains(at, sizeof(Elf64_Rela))) return std::nullopt;
    const std::byte* entry = &place_.image[at];
    if (load_le(entry + 8, 8) != R_AARCH64_RELATIVE) return std::nullopt;
    return Relocation{.place = load_le(entry, 8), .value = load_le(entry + 16, 8)};
  }

  // relative_base as the relocations will set it, in the sense of `address`.
  std::optional<std::uint64_t> relocated(std::size_t base_at) const {
    std::size_t steps = kMaxRelocationSteps;
    for (std::size_t at = 0; at < reader_.size() && steps > 0; at += 8) {
      const auto entry = relocation(at);
      if (!entry) continue;
      const std::uint64_t link_base = entry->place - base_at;
      const std::uint64_t value = entry->value - link_base;
      if (link_base % kAarch64ImageAlign == 0 && value < base_at &&
          neighbours_agree(at, link_base, steps))
        return value + place_.address;
    }
    return std::nullopt;
  }

  // Every relocation of the table around the one at `at` is of a word in this image, which holds 0
  // or the value already, if the image is linked there. Another base, 2 MiB off, would have them
  // change instructions and strings.
  bool neighbours_agree(std::size_t at, std::uint64_t link_base, std::size_t& steps) const {
    const auto agrees = [&](const Relocation& entry) {
      const std::uint64_t target = entry.place - link_base;
      if (!reader_.contains(target, 8)) return false;
      const std::uint64_t now = load_le(&place_.image[target], 8);
      return now == 0 || now == entry.value;
    };
    for (const std::size_t step : {sizeof(Elf64_Rela), std::size_t{0} - sizeof(Elf64_Rela)})
      for (std::size_t other = at; const auto entry = relocation(other); other += step)
        if (steps == 0 || --steps == 0 || !agrees(*entry)) return false;
    return true;
  }

  static constexpr std::uint64_t kBias = kLowestKernel;

  const KallsymsPlace& place_;
  ByteReader reader_;
  Kallsyms& into_;
  std::size_t count_;
  std::size_t first_in_image_ = 0;
};

}  // namespace

Result<void> read_kallsyms_values(const KallsymsPlace& place, Kallsyms& into) {
  return ValueReader(place, into).run();
}

}  // namespace guestscope
