#include "introspect/type_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>

#include "introspect/dwarf_file.h"
#include "introspect/dwarf_types.h"
#include "introspect/limits.h"

namespace guestscope {
namespace {

constexpr std::string_view kMagic = "gs-types";
// To be raised when the same DWARF becomes other BTF than before.
constexpr std::uint32_t kConversion = 1;

struct Header {
  std::array<char, 8> magic;
  le32 conversion;
  le32 header_size;
  le64 key;
  le64 size;
  le64 checksum;
};

std::string reason(int error) { return std::generic_category().message(error); }

// FNV-1a over words of 8 bytes: for damage, not for attackers, who would need to write into the
// user's own folder.
std::uint64_t checksum(ByteSpan bytes) {
  std::uint64_t sum = 0xcbf29ce484222325;
  while (!bytes.empty()) {
    const std::size_t n = std::min<std::size_t>(8, bytes.size());
    sum = (sum ^ load_le(bytes.data(), n) ^ n) * 0x100000001b3;
    sum ^= sum >> 31;
    bytes = bytes.subspan(n);
  }
  return sum;
}

std::uint64_t checksum(std::string_view text) { return checksum(std::as_bytes(std::span(text))); }

bool is_build_id(std::string_view text) {
  return text.size() >= 8 && text.size() <= 128 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::optional<Bytes> read_file(const std::string& path, std::uint64_t limit) {
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info{};
  if (file.get() < 0 || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) ||
      static_cast<std::uint64_t>(info.st_size) > limit)
    return std::nullopt;
  Bytes bytes(static_cast<std::size_t>(info.st_size));
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(file.get(), &bytes[done], bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

bool write_all(int fd, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(fd, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
  return true;
}

void put(Bytes& bytes, std::uint64_t value, unsigned size) {
  for (unsigned i = 0; i < size; ++i)
    bytes.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

}  // namespace

Result<std::string> default_type_cache_folder() {
  // A relative path there is to be ignored: XDG base directory specification. Nobody sets
  // variables while this runs.
  // NOLINTBEGIN(concurrency-mt-unsafe)
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && cache[0] == '/')
    return std::string(cache) + "/guestscope/types";
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/')
    return std::string(home) + "/.cache/guestscope/types";
  // NOLINTEND(concurrency-mt-unsafe)
  return fail(ErrorCode::kNotFound,
              "no folder to keep types in: neither XDG_CACHE_HOME nor HOME is set");
}

Result<TypeCache> TypeCache::open(const std::string& folder, const std::string& kernel_file,
                                  std::string_view build_id) {
  struct stat info{};
  if (::stat(kernel_file.c_str(), &info) != 0)
    return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", kernel_file, reason(errno));
  // A build id that was chosen by hand can stand for several kernels; their sizes tell them apart.
  if (is_build_id(build_id))
    return TypeCache(folder, fmt::format("{}/{}.btf", folder, build_id),
                     checksum(fmt::format("{} {}", build_id, info.st_size)));
  std::error_code ignored;
  const auto absolute = std::filesystem::weakly_canonical(kernel_file, ignored);
  const std::uint64_t key =
      checksum(fmt::format("{} {} {}.{:09}", ignored ? kernel_file : absolute.string(),
                           info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec));
  return TypeCache(folder, fmt::format("{}/file-{:016x}.btf", folder, key), key);
}

std::optional<Bytes> TypeCache::read() const {
  auto bytes = read_file(path_, kMaxBtfBytes + sizeof(Header));
  if (!bytes) return std::nullopt;
  const auto header = ByteReader(*bytes).get<Header>(0);
  if (!header || std::string_view(header->magic.data(), header->magic.size()) != kMagic ||
      header->conversion != kConversion || header->header_size != sizeof(Header) ||
      header->key != key_ || header->size != bytes->size() - sizeof(Header) ||
      header->checksum != checksum(ByteSpan(*bytes).subspan(sizeof(Header))))
    return std::nullopt;
  bytes->erase(bytes->begin(), bytes->begin() + sizeof(Header));
  return bytes;
}

Result<void> TypeCache::write(ByteSpan btf) const {
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (error) return fail(ErrorCode::kSystem, "cannot create {}: {}", folder_, error.message());
  Bytes header;
  for (const char c : kMagic) header.push_back(static_cast<std::byte>(c));
  put(header, kConversion, 4), put(header, sizeof(Header), 4);
  put(header, key_, 8), put(header, btf.size(), 8), put(header, checksum(btf), 8);

  std::string temporary = path_ + ".XXXXXX";
  const File file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (file.get() < 0)
    return fail(ErrorCode::kSystem, "cannot write {}: {}", temporary, reason(errno));
  if (write_all(file.get(), header) && write_all(file.get(), btf) &&
      ::rename(temporary.c_str(), path_.c_str()) == 0)
    return {};
  const int why = errno;
  ::unlink(temporary.c_str());
  return fail(ErrorCode::kSystem, "cannot write {}: {}", path_, reason(why));
}

namespace {

// Measured: 60 MB/s of one processor. With a margin, so that few wait longer than they were told.
constexpr std::uint64_t kBytesPerSecond = 40U << 20;

Result<std::optional<TypeCache>> cache_of(const std::string& path, std::string_view build_id,
                                          const DwarfTypesOptions& options) {
  std::string folder;
  if (options.cache_folder) {
    folder = *options.cache_folder;
    if (folder.empty()) return std::nullopt;
  } else {
    GS_ASSIGN(folder, default_type_cache_folder());
  }
  GS_ASSIGN(TypeCache cache, TypeCache::open(folder, path, build_id));
  return cache;
}

std::chrono::seconds estimate(const std::string& path) {
  const auto sections = ElfSections::open(path);
  const ElfSection* section = sections ? debug_info_of(*sections) : nullptr;
  if (section == nullptr) return std::chrono::seconds(0);
  const bool is_compressed =
      (section->flags & SHF_COMPRESSED) != 0 || section->name == ".zdebug_info";
  const std::uint64_t bytes = section->size * (is_compressed ? 4 : 1);
  return std::chrono::seconds(1 + bytes / kBytesPerSecond);
}

}  // namespace

Result<DwarfTypes> types_from_dwarf(const std::string& path, std::string_view build_id,
                                    const DwarfTypesOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto took = [&] {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                                 start);
  };
  DwarfTypes types;
  const auto cache = cache_of(path, build_id, options);
  if (!cache) types.cache_error = cache.error();
  if (cache && *cache)
    if (auto kept = (*cache)->read()) {
      types.btf = std::move(*kept);
      types.from_cache = true;
      types.took = took();
      return types;
    }
  if (options.on_slow && has_dwarf(path)) options.on_slow(estimate(path));
  GS_ASSIGN(types.btf, btf_from_dwarf(path));
  if (cache && *cache)
    if (auto written = (*cache)->write(types.btf); !written) types.cache_error = written.error();
  types.took = took();
  return types;
}

}  // namespace guestscope
