// The target description: which registers a vCPU has, by name and number.
//
// The stub serves XML documents (qXfer:features:read); target.xml includes others with xi:include.
// A register without regnum= has the number after the one before it, across documents in the order
// of inclusion. Comments hold registers that do not exist (QEMU's i386 documents do), so this is
// read by a real XML parser. Untrusted: documents, depth and registers are limited (limits.h), and
// a document that includes itself is an error.
//
// Source of truth: gdb manual, «Target Descriptions»; QEMU, gdb-xml/.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "arch/result.h"

namespace guestscope::gdb {

struct Register {
  std::string name;
  std::uint32_t number = 0;
  std::uint32_t bits = 0;
};

class TargetDescription {
 public:
  /// Asks for a document by name ("target.xml").
  using Fetch = std::function<Result<std::string>(const std::string& document)>;

  /// Reads target.xml and all that it includes. kProtocol when they make no sense.
  static Result<TargetDescription> load(const Fetch& fetch);

  /// Null when there is no such register. Of several with one name the first is meant.
  const Register* find(std::string_view name) const;
  const std::vector<Register>& registers() const { return registers_; }
  /// "i386:x86-64", "aarch64"; empty when the stub does not say.
  const std::string& architecture() const { return architecture_; }

 private:
  friend class DescriptionLoader;

  std::string architecture_;
  std::vector<Register> registers_;
  std::unordered_map<std::string, std::size_t> index_;
};

}  // namespace guestscope::gdb
