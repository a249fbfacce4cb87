#include "introspect/kallsyms.h"

#include <doctest/doctest.h>
#include <elf.h>

#include <algorithm>
#include <string>

#include "tests/support/kallsyms_builder.h"

namespace guestscope {
namespace {

using test::kallsyms_of;
using test::KallsymsBuilder;
using test::KallsymsShape;

constexpr std::uint64_t kImage = 0xffffffff81000000;
constexpr std::size_t kCount = 700;  // three markers

bool has_per_cpu(const KallsymsShape& shape) {
  return shape.encoding == KallsymsShape::Encoding::kPerCpu ||
         shape.encoding == KallsymsShape::Encoding::kAbsolute;
}
KallsymsBuilder builder_for(const KallsymsShape& shape) {
  return kallsyms_of(kImage, kCount, has_per_cpu(shape));
}
const KallsymsShape& shape_named(std::string_view name) {
  for (const KallsymsShape& shape : KallsymsShape::all())
    if (shape.name == name) return shape;
  FAIL("no shape ", name);
  return KallsymsShape::all().front();
}

// How many symbols differ from what was encoded, `shift` added to those in the image.
std::size_t wrong(const Kallsyms& found, const KallsymsBuilder& builder, std::uint64_t shift = 0) {
  const auto& expected = builder.symbols();
  std::size_t count = found.symbols.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; count == 0 && i < expected.size(); ++i) {
    const KallsymsSymbol& symbol = found.symbols[i];
    // Whatever nm said of them: numbers come out as such.
    const bool per_cpu = expected[i].value < (1ULL << 32);
    const std::uint64_t value = expected[i].value + (per_cpu ? 0 : shift);
    if (symbol.value != value || symbol.type != (per_cpu ? 'A' : expected[i].type) ||
        found.name_of(symbol) != expected[i].name)
      ++count;
  }
  return count;
}

std::string_view text_in_all(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ErrorCode code_of(const Result<Kallsyms>& result) {
  REQUIRE_FALSE(result);
  return result.error().code;
}

}  // namespace

TEST_CASE("symbols are read from the tables of every kernel, whatever their order and encoding") {
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    CAPTURE(shape.name);
    KallsymsBuilder builder = builder_for(shape);
    const auto found = find_kallsyms(builder.image(shape, kImage), kImage, Machine::kX86_64);
    if (!found) FAIL_CHECK(found.error().to_string());
    if (!found) continue;
    CHECK(wrong(*found, builder) == 0);
    CHECK(found->has_data);
    CHECK(found->begin == KallsymsBuilder::kTables);
    if (shape.seqs != KallsymsShape::Seqs::kBeforeTokens) CHECK(found->end == builder.tables_end());
  }
}

TEST_CASE("any number of symbols is told, also one that fills the last marker") {
  for (const KallsymsShape& shape : KallsymsShape::all())
    for (const std::size_t count :
         std::initializer_list<std::size_t>{257, 258, 511, 512, 513, 1024}) {
      CAPTURE(shape.name);
      CAPTURE(count);
      KallsymsBuilder builder = kallsyms_of(kImage, count, has_per_cpu(shape));
      const auto found = find_kallsyms(builder.image(shape, kImage), kImage, Machine::kX86_64);
      if (found) CHECK(wrong(*found, builder) == 0);
      CHECK(found.has_value());
    }
}

TEST_CASE("tables of functions only say so") {
  KallsymsBuilder builder;
  for (std::size_t i = 0; i < kCount; ++i)
    builder.add(kImage + i * 0x1000, 't', "sym" + std::to_string(i));
  // The end of the code is listed as what follows it.
  builder.add(kImage + kCount * 0x1000, 'D', "_etext");
  const auto found =
      find_kallsyms(builder.image(shape_named("6.12 arm64"), kImage), kImage, Machine::kAarch64);
  REQUIRE(found);
  CHECK_FALSE(found->has_data);
  CHECK(wrong(*found, builder) == 0);
}

TEST_CASE("a flat image without an address gives offsets from its first byte") {
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    if (has_per_cpu(shape)) continue;
    CAPTURE(shape.name);
    KallsymsBuilder builder = builder_for(shape);
    const auto found = find_kallsyms(builder.image(shape, kImage), 0, Machine::kAarch64);
    REQUIRE(found);
    CHECK(wrong(*found, builder, 0 - kImage) == 0);
  }
}

// An arm64 kernel that lists functions only, relative_base still 0, and the relocations that will
// set it: of other words before and behind.
struct Unrelocated {
  static constexpr std::uint64_t kLink = 0xffff800008000000;
  static constexpr std::uint64_t kRelocations = 0x1000;

  Unrelocated() {
    for (std::size_t i = 0; i < kCount; ++i)
      builder.add(kLink + 0x2340 + i * 0x1000, 't', "sym" + std::to_string(i));
    builder.set_stored_base(0);
    image = builder.image(shape_named("5.10 arm64"), kLink, 1 << 16);
    // The first two are of the right place for another base, where their neighbours make no sense.
    relocate(0, builder.base_at() + 0x200000, 0x200990);
    relocate(1, 0x4008, 0x20);
    relocate(3, 0x4000, 0x10);
    relocate(4, builder.base_at(), 0x2340);
    relocate(5, 0x4010, 0x1230);
    for (std::size_t at = 0x4000; at <= 0x4010; at += 8) put(at, 0);
  }
  void put(std::size_t at, std::uint64_t value) {
    for (std::size_t i = 0; i < 8; ++i) image[at + i] = static_cast<std::byte>(value >> (8 * i));
  }
  void relocate(std::size_t i, std::uint64_t place, std::uint64_t value) {
    put(kRelocations + i * 24, kLink + place);
    put(kRelocations + i * 24 + 8, R_AARCH64_RELATIVE);
    put(kRelocations + i * 24 + 16, kLink + value);
  }

  KallsymsBuilder builder;
  Bytes image;
};

TEST_CASE("a base that only the relocations know is taken from them") {
  Unrelocated kernel;
  const auto flat = find_kallsyms(kernel.image, 0, Machine::kAarch64);
  REQUIRE(flat);
  CHECK(wrong(*flat, kernel.builder, 0 - Unrelocated::kLink) == 0);
  const auto linked = find_kallsyms(kernel.image, Unrelocated::kLink, Machine::kAarch64);
  REQUIRE(linked);
  CHECK(wrong(*linked, kernel.builder) == 0);
}

TEST_CASE("a base that nothing knows is an error and not a guess") {
  Unrelocated kernel;
  CHECK(code_of(find_kallsyms(kernel.image, 0, Machine::kX86_64)) == ErrorCode::kCorrupt);
  kernel.put(Unrelocated::kRelocations + 4 * 24 + 8, 0);
  CHECK(code_of(find_kallsyms(kernel.image, 0, Machine::kAarch64)) == ErrorCode::kCorrupt);
  CHECK(code_of(find_kallsyms(kernel.image, Unrelocated::kLink, Machine::kAarch64)) ==
        ErrorCode::kCorrupt);
}

TEST_CASE("a linked base of functions only gives offsets as well, images being aligned to 2 MiB") {
  KallsymsBuilder builder;
  for (std::size_t i = 0; i < kCount; ++i)
    builder.add(Unrelocated::kLink + 0x5000 + i * 0x1000, 't', "sym" + std::to_string(i));
  const Bytes image = builder.image(shape_named("6.12 arm64"), Unrelocated::kLink);
  const auto found = find_kallsyms(image, 0, Machine::kAarch64);
  REQUIRE(found);
  CHECK(wrong(*found, builder, 0 - Unrelocated::kLink) == 0);
}

TEST_CASE("tables that are about another address are refused") {
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    if (shape.encoding == KallsymsShape::Encoding::kPlace) continue;  // these are about any
    CAPTURE(shape.name);
    KallsymsBuilder builder = builder_for(shape);
    const Bytes image = builder.image(shape, kImage);
    CHECK_FALSE(find_kallsyms(image, kImage + 0x40000000, Machine::kX86_64));
  }
}

TEST_CASE("remains of another kernel's tokens do not hide the tables") {
  const KallsymsShape& shape = shape_named("6.12 x86-64");
  KallsymsBuilder builder = builder_for(shape);
  Bytes image = builder.image(shape, kImage);
  const Bytes whole = image;
  // A copy of the tokens and their index alone, in front of the real ones.
  const std::string_view text = text_in_all(image);
  const std::size_t digits = text.find(std::string_view("\0000\0001\0002\0003\0004", 10));
  constexpr std::size_t kFrom = 200;
  std::copy_n(&whole[digits - kFrom], 1200, &image[0x800 + (digits - kFrom) % 8]);
  const auto found = find_kallsyms(image, kImage, Machine::kX86_64);
  REQUIRE(found);
  CHECK(wrong(*found, builder) == 0);
}

TEST_CASE("names that contain what looks like a count do not use up the search") {
  const KallsymsShape& shape = shape_named("6.12 arm64");
  KallsymsBuilder builder;
  // Compressed: {2, 2, 1, 0}, the number 66,050; from there on, names seem to follow one another.
  for (std::size_t i = 0; i < 70'000; ++i)
    builder.add(kImage + i * 0x100, 't', "_init_inittfunc_Tsym" + std::to_string(i));
  const auto found = find_kallsyms(builder.image(shape, kImage), kImage, Machine::kX86_64);
  REQUIRE(found);
  CHECK(wrong(*found, builder) == 0);
}

TEST_CASE("bytes without tables are told from damaged ones") {
  CHECK(code_of(find_kallsyms({}, 0, Machine::kX86_64)) == ErrorCode::kNotFound);
  CHECK(code_of(find_kallsyms(Bytes(1 << 20), kImage, Machine::kX86_64)) == ErrorCode::kNotFound);
  const KallsymsShape& shape = shape_named("7.2");
  KallsymsBuilder builder = builder_for(shape);
  std::uint64_t earlier = kImage;
  builder.add(earlier, 'T', "out_of_order");
  CHECK(code_of(find_kallsyms(builder.image(shape, kImage, 1 << 16), kImage, Machine::kX86_64)) ==
        ErrorCode::kCorrupt);
  KallsymsBuilder typeless = builder_for(shape);
  typeless.add(kImage + 0x400000, '$', "odd");
  CHECK(code_of(find_kallsyms(typeless.image(shape, kImage, 1 << 16), kImage, Machine::kX86_64)) ==
        ErrorCode::kCorrupt);
  KallsymsBuilder endless = builder_for(shape);
  endless.add(kImage + 0x400000, 'T', std::string(2000, 'x'));
  CHECK(code_of(find_kallsyms(endless.image(shape, kImage, 1 << 16), kImage, Machine::kX86_64)) ==
        ErrorCode::kCorrupt);
}

TEST_CASE("tables cut off at any byte, in front or behind, give an error and no symbols") {
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    CAPTURE(shape.name);
    KallsymsBuilder builder = kallsyms_of(kImage, 300, has_per_cpu(shape));
    const Bytes image = builder.image(shape, kImage, 0);
    const std::size_t step = shape.align == 4 ? 1 : 7;
    // The symbols by name are not needed, nor is the padding in front of them.
    const std::size_t last = shape.seqs == KallsymsShape::Seqs::kLast ? 300 * 3 + 8 : 0;
    std::size_t found = 0;
    for (std::size_t size = 0; size < image.size() - last; size += step)
      if (find_kallsyms(ByteSpan(image).first(size), kImage, Machine::kX86_64)) ++found;
    for (std::size_t from = KallsymsBuilder::kTables + 1; from < image.size(); from += step)
      if (find_kallsyms(ByteSpan(image).subspan(from), kImage + from, Machine::kX86_64)) ++found;
    CHECK(found == 0);
  }
}

TEST_CASE("any changed byte harms nothing, and never changes how many symbols there are") {
  for (const KallsymsShape& shape : KallsymsShape::all()) {
    KallsymsBuilder builder = kallsyms_of(kImage, 260, has_per_cpu(shape));
    const Bytes whole = builder.image(shape, kImage, 8);
    Bytes image = whole;
    for (std::size_t at = KallsymsBuilder::kTables; at < image.size(); at += 7) {
      for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
        image[at] = static_cast<std::byte>(value);
        const auto found = find_kallsyms(image, kImage, Machine::kX86_64);
        if (found) REQUIRE(found->symbols.size() == builder.symbols().size());
      }
      image[at] = whole[at];
    }
  }
}

TEST_CASE("an image full of tokens and counts is given up in time") {
  KallsymsBuilder builder = builder_for(shape_named("7.2"));
  const Bytes one = builder.image(shape_named("7.2"), kImage, 0);
  Bytes image;
  for (int i = 0; i < 100; ++i) {
    // Counts everywhere, and names that never end in front of tokens.
    for (int word = 0; word < 4096; ++word)
      for (const int byte : {1, 1, 1, 0}) image.push_back(static_cast<std::byte>(byte));
    image.insert(image.end(), one.begin() + KallsymsBuilder::kTables + 700 * 6, one.end());
  }
  CHECK_FALSE(find_kallsyms(image, 0, Machine::kAarch64));
}

}  // namespace guestscope
