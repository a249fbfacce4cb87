// Runs every target over its seeds and thousands of deterministic mutations of them.
//
//   fuzz_smoke [TARGET]         all targets, or one
//   fuzz_smoke --seeds FOLDER   writes FOLDER/TARGET/N instead: the corpus to start libFuzzer with
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/fuzz/fuzz_targets.h"

namespace guestscope::fuzz {
namespace {

/// xorshift64*: the same everywhere, unlike the distributions of the standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1d;
  }
  std::size_t below(std::size_t end) { return end == 0 ? 0 : (next() >> 16) % end; }

 private:
  std::uint64_t state_;
};

constexpr std::uint64_t kOdd[] = {0,          1,          2,          0x7f,       0x80,
                                  0xff,       0xffff,     0x7fffffff, 0x80000000, 0xffffffff,
                                  0xfffffffe, 0x10000000, 1ULL << 63, ~0ULL,      0x1000};

using Place = Bytes::difference_type;

Place place(std::size_t at) { return static_cast<Place>(at); }

void change(Bytes& bytes, const std::vector<Bytes>& seeds, Random& random) {
  const std::size_t at = random.below(bytes.size());
  const std::size_t length = std::min(bytes.size() - at, random.below(32) + 1);
  switch (random.below(7)) {
    case 0:
      if (!bytes.empty()) bytes[at] ^= std::byte{1} << static_cast<int>(random.below(8));
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<std::byte>(random.next() & 0xff);
      break;
    case 2: {  // a whole number, mostly where one may be
      const std::uint64_t value = kOdd[random.below(std::size(kOdd))];
      const std::size_t size = std::size_t{1} << random.below(4);
      const std::size_t begin = random.below(4) == 0 ? at : at & ~(size - 1);
      for (std::size_t i = 0; i < size && begin + i < bytes.size(); ++i)
        bytes[begin + i] = static_cast<std::byte>(value >> (8 * i) & 0xff);
      break;
    }
    case 3: bytes.erase(bytes.begin() + place(at), bytes.begin() + place(at + length)); break;
    case 4: {
      const Bytes copy(bytes.begin() + place(at), bytes.begin() + place(at + length));
      bytes.insert(bytes.begin() + place(random.below(bytes.size() + 1)), copy.begin(), copy.end());
      break;
    }
    case 5: bytes.resize(at); break;
    default: {  // the rest of another seed
      const Bytes& other = seeds[random.below(seeds.size())];
      const std::size_t from = std::min(at, other.size());
      bytes.resize(at);
      bytes.insert(bytes.end(), other.begin() + place(from), other.end());
    }
  }
}

void run(const Target& target) {
  const std::vector<Bytes> seeds = target.seeds();
  target.run({});
  for (const Bytes& seed : seeds) {
    target.run(seed);
    for (std::size_t n = 0; n < std::min<std::size_t>(seed.size(), 4096); ++n)
      target.run(ByteSpan(seed).first(n));
  }
  Random random(0x9e3779b97f4a7c15);
  for (int i = 0; i < target.mutations; ++i) {
    Bytes bytes = seeds[random.below(seeds.size())];
    for (std::size_t changes = 1 + random.below(4); changes != 0; --changes)
      change(bytes, seeds, random);
    target.run(bytes);
  }
  std::printf("%.*s: %zu seeds, %d mutations\n", static_cast<int>(target.name.size()),
              target.name.data(), seeds.size(), target.mutations);
}

void write_seeds(const std::filesystem::path& folder) {
  for (const Target& target : all_targets()) {
    const auto corpus = folder / target.name;
    std::filesystem::create_directories(corpus);
    int number = 0;
    for (const Bytes& seed : target.seeds())
      std::ofstream(corpus / std::to_string(number++), std::ios::binary) << as_text(seed);
  }
}

}  // namespace
}  // namespace guestscope::fuzz

int main(int argc, char** argv) {
  using namespace guestscope::fuzz;
  const std::string_view argument = argc > 1 ? argv[1] : "";
  if (argument == "--seeds" && argc == 3) {
    write_seeds(argv[2]);
    return 0;
  }
  bool any = false;
  for (const Target& target : all_targets())
    if (argument.empty() || argument == target.name) {
      run(target);
      any = true;
    }
  return any ? 0 : 2;
}
