// TypeCache: BTF that was made from DWARF, kept on disk so that it is made once for each kernel.
//
// One file for each kernel file, BUILDID-KEY.btf, or a name made from the kernel file's path, size
// and time when it has no build id. The bytes carry a header with the key and a checksum; a file
// that is damaged, of another kernel or of another version of the conversion counts as absent, and
// is replaced. Written under a temporary name and renamed, so that a reader finds all of it or
// none. What is read goes through Btf::parse() like everything else.
//
// Threads and processes: any number. Blocks on disk I/O.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

/// ${XDG_CACHE_HOME:-~/.cache}/guestscope/types. kNotFound when the environment names no home.
Result<std::string> default_type_cache_folder();

class TypeCache {
 public:
  /// For one kernel file. Nothing is created before write(). `build_id`: lower-case hex, or empty.
  static Result<TypeCache> open(const std::string& folder, const std::string& kernel_file,
                                std::string_view build_id);

  const std::string& path() const { return path_; }
  /// Nothing when there is no good copy.
  std::optional<Bytes> read() const;
  Result<void> write(ByteSpan btf) const;

 private:
  TypeCache(std::string folder, std::string path, std::uint64_t key)
      : folder_(std::move(folder)), path_(std::move(path)), key_(key) {}

  std::string folder_;
  std::string path_;
  std::uint64_t key_;
};

struct DwarfTypes {
  Bytes btf;
  bool from_cache = false;
  std::chrono::milliseconds took{};
  /// Why there will be no copy for the next time. Not a failure: the types are there.
  std::optional<Error> cache_error;
};

struct DwarfTypesOptions {
  /// Where copies are kept; the default one when absent, none when empty.
  std::optional<std::string> cache_folder;
  /// Called before DWARF is read, if it has to be, with about how long that will take.
  std::function<void(std::chrono::seconds estimate)> on_slow;
};

/// BTF of the file's DWARF, from the cache when it is there. Fails as btf_from_dwarf() does; the
/// cache cannot make it fail.
Result<DwarfTypes> types_from_dwarf(const std::string& path, std::string_view build_id,
                                    const DwarfTypesOptions& options = {});

}  // namespace guestscope
