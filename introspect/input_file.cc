#include "introspect/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace guestscope {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Result<InputFile> InputFile::open(const std::string& path) {
  // Non-blocking: a FIFO would otherwise wait for a writer before it could be refused.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kSystem,
                "cannot open kernel file {}: {}", path, reason(errno));
  InputFile file(fd, path);
  struct stat info{};
  if (::fstat(fd, &info) != 0)
    return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", path, reason(errno));
  if (!S_ISREG(info.st_mode))
    return fail(ErrorCode::kInvalidArgument, "kernel file {} is {}", path,
                S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
  if (info.st_size == 0) return fail(ErrorCode::kInvalidArgument, "kernel file {} is empty", path);
  file.size_ = static_cast<std::uint64_t>(info.st_size);
  return file;
}

Result<Bytes> InputFile::read_at(std::uint64_t offset, std::size_t size) const {
  if (offset > size_ || size > size_ - offset)
    return fail(ErrorCode::kCorrupt, "kernel file {}: {} bytes at {} lie beyond its end", path_,
                size, offset);
  Bytes bytes(size);
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = ::pread(fd_, &bytes[done], size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return fail(ErrorCode::kSystem, "cannot read kernel file {}: {}", path_, reason(errno));
    if (got == 0) return fail(ErrorCode::kCorrupt, "kernel file {} has become shorter", path_);
    done += static_cast<std::size_t>(got);
  }
  return bytes;
}

}  // namespace guestscope
