// InputFile: a regular file that is read piece by piece, never mapped: a kernel build that
// truncates it under us would turn a mapping into SIGBUS.
//
// Threads: any. Blocks on disk I/O. Errors are one line that names the file as "kernel file PATH".
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "arch/bytes.h"
#include "arch/result.h"

namespace guestscope {

class InputFile {
 public:
  /// kNotFound, kSystem; kInvalidArgument: a directory, a FIFO (which is not waited for), empty.
  static Result<InputFile> open(const std::string& path);

  InputFile(InputFile&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}
  InputFile& operator=(InputFile&&) = delete;
  ~InputFile();

  int descriptor() const { return fd_; }
  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  /// kCorrupt when they lie beyond the end.
  Result<Bytes> read_at(std::uint64_t offset, std::size_t size) const;

 private:
  InputFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_ = -1;
  std::uint64_t size_ = 0;
  std::string path_;
};

}  // namespace guestscope
