// Variables found without their symbols, in an image put together byte by byte.
#include "introspect/symbol_recovery.h"

#include <doctest/doctest.h>

#include <map>
#include <random>

#include "introspect/limits.h"
#include "tests/support/btf_builder.h"

namespace guestscope {
namespace {

constexpr std::uint64_t kText = 0xffffffff9e000000;
constexpr std::uint64_t kReadOnly = 0xffffffff9f200000;
constexpr std::uint64_t kData = 0xffffffffa0005000;
constexpr std::uint64_t kMapIdr = kData + 0xfc0;
constexpr std::uint64_t kPerCpuBegin = 0xffffffffa1234000;
constexpr std::uint32_t kRunQueues = 0x2c40;  // in the per-CPU section
constexpr std::uint32_t kDequeueTask = 24;    // in a sched_class

/// The structures that are asked for, and a per-CPU section of four variables.
Btf make_types() {
  BtfBuilder types;
  const TypeId number = types.integer("unsigned int", 4, 32);
  const TypeId pointer = types.refer(BtfKind::kPtr, 0);
  const TypeId xarray =
      types.aggregate(BtfKind::kStruct, "xarray", 16,
                      {{"xa_lock", number, 0}, {"xa_flags", number, 32}, {"xa_head", pointer, 64}});
  types.aggregate(BtfKind::kStruct, "idr", 24, {{"idr_rt", xarray, 0}, {"idr_next", number, 160}});
  types.aggregate(BtfKind::kStruct, "sched_class", 200,
                  {{"enqueue_task", pointer, 128}, {"dequeue_task", pointer, kDequeueTask * 8}});
  std::vector<std::uint32_t> section;
  const std::pair<const char*, std::uint32_t> variables[] = {
      {"cpu_number", 0x10}, {"current_task", 0x40}, {"runqueues", kRunQueues}, {"softnet", 0x5000}};
  for (const auto& [name, offset] : variables)
    section.insert(section.end(),
                   {types.add(BtfKind::kVar, name, 0, number, {1}), offset, std::uint32_t{4}});
  types.add(BtfKind::kDatasec, ".data..percpu", std::size(variables), 0x6000, section);
  return types.build();
}

class Image {
 public:
  explicit Image(Machine machine = Machine::kX86_64) : machine_(machine) {}

  /// A text in read-only data; its address.
  std::uint64_t text(std::string_view name) {
    const std::uint64_t at = kReadOnly + read_only_.size();
    for (const char c : name) read_only_.push_back(static_cast<std::byte>(c));
    read_only_.push_back(std::byte{0});
    return at;
  }
  void align(std::size_t to) { read_only_.resize((read_only_.size() + to - 1) / to * to); }
  /// An entry of __ksymtab: value, name, namespace, each relative to its own place.
  void exports(std::uint64_t name_at, std::uint64_t value) {
    align(4);
    for (const std::uint64_t target : {value, name_at, std::uint64_t{0}})
      put(read_only_, target == 0 ? 0 : target - (kReadOnly + read_only_.size()), 4);
  }
  void exports(std::string_view name, std::uint64_t value) { exports(text(name), value); }
  /// A scheduling class that points to `function`; its address.
  std::uint64_t sched_class(std::uint64_t function) {
    align(8);
    const std::uint64_t at = kReadOnly + read_only_.size();
    read_only_.resize(read_only_.size() + kDequeueTask);
    put(read_only_, function, 8);
    return at;
  }
  void function(std::string_view name, std::uint64_t at, Bytes code = Bytes(16)) {
    functions_[at] = name;
    functions_.try_emplace(at + code.size(), "next_" + std::string(name));
    pieces_[at] = std::move(code);
  }
  void idr(std::uint64_t at, std::uint32_t flags = 4) {
    Bytes bytes;
    put(bytes, 0, 4), put(bytes, flags, 4), put(bytes, 0, 8), put(bytes, 0, 8);
    pieces_[at] = bytes;
  }
  void raw(ByteSpan bytes) { read_only_.insert(read_only_.end(), bytes.begin(), bytes.end()); }

  std::map<std::string, std::uint64_t> recover(const Btf& types = make_types()) const {
    Kallsyms found;
    for (const auto& [at, name] : functions_) {
      found.symbols.push_back({.value = at,
                               .name = static_cast<std::uint32_t>(found.names.size()),
                               .name_size = static_cast<std::uint16_t>(name.size()),
                               .type = 't'});
      found.names += name;
    }
    found.symbols.push_back({.value = kData, .name = 0, .name_size = 0, .type = 't'});
    std::map<std::string, std::uint64_t> values;
    const auto read = [this](std::uint64_t address, std::size_t size) -> Result<Bytes> {
      auto piece = pieces_.upper_bound(address);
      if (piece == pieces_.begin()) return fail(ErrorCode::kNotMapped, "nothing there");
      --piece;
      const std::uint64_t skip = address - piece->first;
      if (skip >= piece->second.size()) return fail(ErrorCode::kNotMapped, "nothing there");
      Bytes bytes(piece->second.begin() + static_cast<std::ptrdiff_t>(skip), piece->second.end());
      bytes.resize(size);
      return bytes;
    };
    for (const RecoveredSymbol& symbol : recover_symbols(
             {.machine = machine_, .address = kReadOnly, .read_only = read_only_, .read = read},
             SymbolTable::from_kallsyms(std::move(found), "test"), types)) {
      CHECK_FALSE(values.contains(symbol.name));
      values[symbol.name] = symbol.value;
    }
    return values;
  }

  static void put(Bytes& bytes, std::uint64_t value, int size) {
    for (int i = 0; i < size; ++i)
      bytes.push_back(static_cast<std::byte>((value >> (8 * i)) & 0xff));
  }

 private:
  Machine machine_;
  Bytes read_only_ = Bytes(64);
  std::map<std::uint64_t, std::string> functions_;
  std::map<std::uint64_t, Bytes> pieces_;
};

using Symbols = std::map<std::string, std::uint64_t>;

TEST_CASE("exported variables are read from __ksymtab, whichever way its offsets point") {
  Image image;
  image.exports("phys_base", kData + 0x10);          // forwards
  image.exports("init_task", kReadOnly - 0x100000);  // backwards
  image.exports("not_asked_for", kData + 0x20);
  CHECK(image.recover() ==
        Symbols{{"phys_base", kData + 0x10}, {"init_task", kReadOnly - 0x100000}});
}

TEST_CASE("a name that is the end of another one's text counts") {
  Image image;
  const std::uint64_t merged = image.text("hv_vmalloc_base");
  image.exports(merged, kData + 8);
  image.exports(merged + 3, kData + 16);
  CHECK(image.recover() == Symbols{{"vmalloc_base", kData + 16}});
}

TEST_CASE("a name with two values is left out, one that is exported twice alike is not") {
  Image image;
  image.exports("phys_base", kData + 8);
  image.exports("phys_base", kData + 16);
  image.exports("system_state", kData + 24);
  image.exports("system_state", kData + 24);
  CHECK(image.recover() == Symbols{{"system_state", kData + 24}});
}

TEST_CASE("what the symbol table has is not recovered") {
  Image image;
  image.exports("phys_base", kData + 8);
  image.function("phys_base", kText);
  CHECK(image.recover().empty());
}

TEST_CASE(
    "a per-CPU variable is found by its neighbours: those exported tell the section's begin") {
  Image image;
  image.exports("current_task", kPerCpuBegin + 0x40);
  CHECK(image.recover() == Symbols{{"runqueues", kPerCpuBegin + kRunQueues}});
  SUBCASE("most of them count") {
    image.exports("cpu_number", kPerCpuBegin + 0x10);
    image.exports("softnet", kPerCpuBegin + 0x9000);
    CHECK(image.recover() == Symbols{{"runqueues", kPerCpuBegin + kRunQueues}});
  }
  SUBCASE("as many that say otherwise make it uncertain") {
    image.exports("softnet", kPerCpuBegin + 0x9000);
    CHECK(image.recover().empty());
  }
  SUBCASE("offsets from zero are a begin as well") {
    Image old;  // x86-64 before 6.15
    old.exports("current_task", 0xffffffff80000000 + 0x40);
    CHECK(old.recover() == Symbols{{"runqueues", 0xffffffff80000000 + kRunQueues}});
  }
}

TEST_CASE("types without a per-CPU section cost the per-CPU variables only") {
  Image image;
  image.exports("phys_base", kData + 8);
  image.exports("current_task", kPerCpuBegin + 0x40);
  CHECK(image.recover(BtfBuilder().build()) == Symbols{{"phys_base", kData + 8}});
}

// --- code ---

struct Code {
  explicit Code(std::uint64_t begin) : at(begin) {}

  Code& word(std::uint32_t instruction) {
    Image::put(bytes, instruction, 4);
    return *this;
  }
  Code& adrp(unsigned to, std::uint64_t target) {
    const auto pages = static_cast<std::uint32_t>((target >> 12) - ((at + bytes.size()) >> 12));
    return word(0x90000000U | (pages & 3U) << 29 | (pages >> 2 & 0x7ffffU) << 5 | to);
  }
  Code& add(unsigned to, unsigned from, std::uint64_t offset) {
    return word(0x91000000U | static_cast<std::uint32_t>(offset & 0xfff) << 10 | from << 5 | to);
  }
  /// MOV $imm32, %rdi, or another register below %r8.
  Code& mov(std::uint64_t value, std::uint8_t reg = 7) {
    Image::put(bytes, 0xc748, 2), Image::put(bytes, 0xc0U | reg, 1), Image::put(bytes, value, 4);
    return *this;
  }
  /// LEA disp(%rip), %rdi or (with REX.R) %r15.
  Code& lea(std::uint64_t target, bool high = false) {
    Image::put(bytes, high ? 0x8d4c : 0x8d48, 2), Image::put(bytes, 0x3d, 1);
    Image::put(bytes, target - (at + bytes.size() + 4), 4);
    return *this;
  }
  Code& raw(std::initializer_list<std::uint8_t> list) {
    for (const std::uint8_t byte : list) bytes.push_back(std::byte{byte});
    return *this;
  }

  std::uint64_t at;
  Bytes bytes{};
};

constexpr std::uint64_t kFunction = kText + 0x12340;
constexpr std::string_view kMapUser = "bpf_map_get_curr_or_next";

/// The IDR, and the lock that the same code takes.
Image with_idr(Machine machine, const Code& code) {
  Image image(machine);
  image.function(kMapUser, kFunction, code.bytes);
  image.idr(kMapIdr);
  image.idr(kMapIdr + 0x100, 0);  // map_idr_lock: not an IDR's flags
  return image;
}

TEST_CASE("an IDR is the one whose address x86-64 code forms, by MOV or by LEA") {
  const Symbols expected = {{"map_idr", kMapIdr}};
  CHECK(with_idr(Machine::kX86_64, Code(kFunction).mov(kMapIdr + 0x100).mov(kMapIdr)).recover() ==
        expected);
  CHECK(with_idr(Machine::kX86_64, Code(kFunction).mov(kMapIdr, 3).mov(kMapIdr, 7)).recover() ==
        expected);
  CHECK(with_idr(Machine::kX86_64, Code(kFunction).lea(kMapIdr + 0x100).lea(kMapIdr)).recover() ==
        expected);
  // At any byte, as instructions there are: PUSH RBX; NOP in front.
  CHECK(with_idr(Machine::kX86_64, Code(kFunction).raw({0x53, 0x0f, 0x1f, 0}).lea(kMapIdr, true))
            .recover() == expected);
  CHECK(with_idr(Machine::kX86_64, Code(kFunction).mov(kMapIdr + 0x100)).recover().empty());
}

TEST_CASE("an IDR is the one whose address arm64 code forms, by ADRP and one ADD or two") {
  const Symbols expected = {{"map_idr", kMapIdr}};
  const Code one = Code(kFunction).adrp(0, kMapIdr).add(0, 0, kMapIdr);
  CHECK(with_idr(Machine::kAarch64, one).recover() == expected);
  // The lock and the IDR share the page's address and a first offset.
  const Code two = Code(kFunction)
                       .adrp(21, kMapIdr)
                       .word(0xaa0003f3)  // MOV x19, x0
                       .add(21, 21, 0xf00)
                       .add(0, 21, 0x1c0)
                       .add(1, 21, 0xc0);
  CHECK(with_idr(Machine::kAarch64, two).recover() == expected);
  // An ADD to a register that no ADRP filled says nothing.
  const Code other = Code(kFunction).adrp(3, kMapIdr).add(4, 5, kMapIdr);
  CHECK(with_idr(Machine::kAarch64, other).recover().empty());
  // Data in front of the code.
  Image before(Machine::kAarch64);
  const std::uint64_t far = kFunction - 0x7654000;
  before.function(kMapUser, kFunction, Code(kFunction).adrp(9, far).add(9, 9, far).bytes);
  before.idr(far);
  CHECK(before.recover() == Symbols{{"map_idr", far}});
}

TEST_CASE("code that forms the addresses of two IDRs does not tell which") {
  Image image = with_idr(Machine::kX86_64, Code(kFunction).mov(kMapIdr).mov(kMapIdr + 0x200));
  image.idr(kMapIdr + 0x200);
  CHECK(image.recover().empty());
}

TEST_CASE("only the function's own code is looked at") {
  Image image(Machine::kX86_64);
  image.idr(kMapIdr);
  Code code(kFunction);
  code.raw({0x90, 0x90, 0x90, 0x90}).mov(kMapIdr).raw({0x90});
  image.function(kMapUser, kFunction, code.bytes);
  image.function("another", kFunction + 4);
  CHECK(image.recover().empty());
}

TEST_CASE("without the per-CPU section the run queues are what two of their users form") {
  const std::uint64_t queues = kPerCpuBegin + kRunQueues, offsets = kData + 0x700;
  const std::uint64_t other = kFunction + 0x1000;
  const auto image_of = [&](const Code& idle, const Code& iowait) {
    Image image(Machine::kAarch64);
    image.exports("__per_cpu_offset", offsets);
    image.function("idle_cpu", kFunction, idle.bytes);
    image.function("nr_iowait_cpu", other, iowait.bytes);
    return image.recover(BtfBuilder().build());
  };
  Code idle = Code(kFunction).adrp(1, queues).add(1, 1, queues).adrp(2, offsets);
  idle.add(2, 2, offsets).adrp(3, kData).add(3, 3, 0x40);
  Code iowait = Code(other).adrp(4, offsets).add(4, 4, offsets).adrp(5, queues);
  iowait.add(5, 5, queues);
  CHECK(image_of(idle, iowait) == Symbols{{"__per_cpu_offset", offsets}, {"runqueues", queues}});
  // Two that both form tell nothing.
  iowait.adrp(6, kData).add(6, 6, 0x40);
  CHECK(image_of(idle, iowait) == Symbols{{"__per_cpu_offset", offsets}});
}

TEST_CASE("a scheduling class is the structure that points to its own function, if there is one") {
  constexpr std::uint64_t kFair = kText + 0x100, kRt = kText + 0x200;
  Image image;
  image.function("dequeue_task_fair", kFair);
  image.function("dequeue_task_rt", kRt);
  const std::uint64_t fair = image.sched_class(kFair);
  const std::uint64_t rt = image.sched_class(kRt);
  CHECK(image.recover() == Symbols{{"fair_sched_class", fair}, {"rt_sched_class", rt}});
  image.sched_class(kRt);
  CHECK(image.recover() == Symbols{{"fair_sched_class", fair}});
}

// --- input from outside ---

TEST_CASE("an empty image recovers nothing") {
  const Btf types = make_types();
  CHECK(recover_symbols({}, SymbolTable(), types).empty());
  CHECK(recover_symbols({.machine = Machine::kAarch64, .address = ~std::uint64_t{0}}, SymbolTable(),
                        types)
            .empty());
}

TEST_CASE("offsets that lead out of the image, or around the address space, lead nowhere") {
  for (const std::uint64_t address : {std::uint64_t{0}, std::uint64_t{4}, kReadOnly,
                                      ~std::uint64_t{0} - 15, std::uint64_t{1} << 63}) {
    for (const std::uint32_t name : {0U, 0x7fffffffU, 0x80000000U, 0xffffffffU, 0xfffffff0U}) {
      Bytes bytes;
      for (int i = 0; i < 64; ++i) Image::put(bytes, name, 4);
      CHECK(recover_symbols({.address = address, .read_only = bytes}, SymbolTable(), make_types())
                .empty());
    }
  }
  // A name without an end, at the very end.
  Image image;
  image.exports("init_task", kData);
  image.exports(kReadOnly + 64 + 24, kData);
  image.raw(std::as_bytes(std::span("phys_base", 9)));
  CHECK(image.recover() == Symbols{{"init_task", kData}});
}

TEST_CASE("random bytes as code, data and tables do no harm") {
  std::mt19937_64 random(20261123);
  for (const Machine machine : {Machine::kX86_64, Machine::kAarch64}) {
    for (int round = 0; round < 20; ++round) {
      Bytes noise(64 << 10);
      for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
      Image image(machine);
      image.raw(noise);
      image.function(kMapUser, kFunction, noise);
      image.function("dequeue_task_fair", kText + 0x100);
      CHECK(image.recover().empty());
    }
  }
}

TEST_CASE("a function without an end costs no more than the limit, and unreadable code nothing") {
  std::size_t asked = 0;
  Kallsyms found;
  found.names = kMapUser;
  found.symbols.push_back({.value = kFunction,
                           .name = 0,
                           .name_size = static_cast<std::uint16_t>(kMapUser.size()),
                           .type = 't'});
  found.symbols.push_back({.value = kFunction + (1 << 30), .name = 0, .name_size = 0, .type = 't'});
  const auto symbols = SymbolTable::from_kallsyms(std::move(found), "test");
  const auto read = [&](std::uint64_t, std::size_t size) -> Result<Bytes> {
    asked = std::max(asked, size);
    return fail(ErrorCode::kNotMapped, "nothing there");
  };
  CHECK(recover_symbols({.machine = Machine::kX86_64, .address = kReadOnly, .read = read}, symbols,
                        make_types())
            .empty());
  CHECK(asked == kMaxFunctionBytes);
}

TEST_CASE("bytes that are fewer than asked for are not believed") {
  Kallsyms found;
  found.names = kMapUser;
  found.symbols.push_back({.value = kFunction,
                           .name = 0,
                           .name_size = static_cast<std::uint16_t>(kMapUser.size()),
                           .type = 't'});
  const auto symbols = SymbolTable::from_kallsyms(std::move(found), "test");
  const Bytes code = Code(kFunction).mov(kMapIdr).bytes;
  for (std::size_t size = 0; size < code.size(); ++size) {
    const auto read = [&](std::uint64_t address, std::size_t) -> Result<Bytes> {
      if (address != kFunction) return Bytes(size, std::byte{4});
      return Bytes(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(size + 1));
    };
    CHECK(recover_symbols({.machine = Machine::kX86_64, .address = kReadOnly, .read = read},
                          symbols, make_types())
              .empty());
  }
}

}  // namespace
}  // namespace guestscope
